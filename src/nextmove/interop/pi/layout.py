"""Where each tensor of pi0 and pi0.5 is in published files: one table, read in both directions.

Ours are made of pieces of theirs, row by row: queries, keys and values are one matrix here, and what a time does to a
norm is one map for both norms of a layer, with the shift first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nextmove.config import ConfigError
from nextmove.interop.hf import llama, vision
from nextmove.interop.weights import renamed
from nextmove.weights import check

SEEN = "paligemma_with_expert.paligemma.model"
EXPERT = "paligemma_with_expert.gemma_expert.model"
EMBEDDING = f"{SEEN}.language_model.embed_tokens.weight"
HEAD = "paligemma_with_expert.paligemma.lm_head.weight"
SPARE = "paligemma_with_expert.gemma_expert.lm_head.weight"
MAPS = {"state": "state_proj", "action": "action_in_proj", "head": "action_out_proj"}
TIMES = {"token": "action_time_mlp", "adaptive": "time_mlp"}
"""Beginning of the names of the network of times, by how they enter (`nn.expert.Expert.time`)."""
NORMS = ("input_layernorm", "post_attention_layernorm")


@dataclass(frozen=True)
class Piece:
    """Rows of a tensor of the file; sign: -1 where ours is its opposite."""

    name: str
    first: int
    rows: int
    sign: int = 1


Table = Mapping[str, tuple[Piece, ...]]
"""Name of a tensor of ours -> the pieces that it is made of."""


def table(policy: Any) -> dict[str, tuple[Piece, ...]]:
    """The table of a policy; names in the file are openpi's, which LeRobot's have "model." in front of."""
    own: dict[str, Tensor] = policy.state_dict()
    net = policy.decoder.net
    adaptive = bool(net.adaptive)
    found = prefix(policy, own) | dict(_stack(own, "decoder.net.", EXPERT, net.stream, adaptive))
    maps = {f"decoder.net.{ours}": theirs for ours, theirs in MAPS.items()}
    times = TIMES["adaptive" if adaptive else "token"]
    maps |= {"decoder.net.time.0": f"{times}_in", "decoder.net.time.2": f"{times}_out"}
    for name in own:
        theirs = renamed(name, maps)
        if theirs is not None:
            # Their velocity points from data to noise.
            sign = -1 if name.startswith("decoder.net.head.") else 1
            found[name] = (Piece(theirs, 0, len(own[name]), sign),)
    return found


def prefix(policy: Any, own: Mapping[str, Tensor]) -> dict[str, tuple[Piece, ...]]:
    """Of what sees and reads: the tower, the bridge and the language model but for its head."""
    stream = policy.encoder.language.stream
    found = dict(_stack(own, "encoder.language.", f"{SEEN}.language_model", stream, False))
    found["encoder.language.embedding.weight"] = (_whole(EMBEDDING, own["encoder.language.embedding.weight"]),)
    start = "encoder.towers.0."
    for name in (name for name in own if name.startswith(start)):
        theirs = f"{SEEN}.vision_tower.vision_model.{vision.foreign(name.removeprefix(start))}"
        parts = theirs.replace(".self_attn.qkv.", ".self_attn.{}_proj.")
        found[name] = _rows([parts.format(c) for c in "qkv"] if parts != theirs else [theirs], own[name])
    bridge = {"encoder.bridge.maps.0": f"{SEEN}.multi_modal_projector.linear"}
    for name in own:
        if (spelled := renamed(name, bridge)) is not None:
            found[name] = (_whole(spelled, own[name]),)
    return found


def _stack(
    own: Mapping[str, Tensor], start: str, theirs: str, stream: Any, adaptive: bool
) -> Iterator[tuple[str, tuple[Piece, ...]]]:
    """The blocks of one stream and its last norm."""
    width = stream.width
    for name, value in own.items():
        if not name.startswith(f"{start}stream."):
            continue
        inside = name.removeprefix(start)
        end = inside.rpartition(".")[2]
        if adaptive and ".adaptive." in inside:
            if inside.startswith("stream.adaptive."):
                yield name, _steering(f"{theirs}.norm.dense.{end}", width)
                continue
            layer = f"{theirs}.layers.{inside.split('.')[2]}"
            yield name, tuple(p for norm in NORMS for p in _steering(f"{layer}.{norm}.dense.{end}", width))
            continue
        spelled = llama.foreign(inside)
        whole = f"{theirs}.{spelled}"
        if whole.endswith("qkv_proj.weight"):
            attention: Any = stream.blocks[int(inside.split(".")[2])].attention
            names = [whole.replace("qkv_proj", f"{c}_proj") for c in "qkv"]
            yield name, tuple(Piece(n, 0, rows) for n, rows in zip(names, attention.widths, strict=True))
        elif whole.endswith("gate_up_proj.weight"):
            yield name, _rows([whole.replace("gate_up_proj", f"{part}_proj") for part in ("gate", "up")], value)
        else:
            yield name, (_whole(whole, value),)


def _steering(name: str, width: int) -> tuple[Piece, ...]:
    """Shift, scale and gate of a map whose rows are scale, shift and gate."""
    return tuple(Piece(name, first * width, width) for first in (1, 0, 2))


def _whole(name: str, value: Tensor) -> Piece:
    return Piece(name, 0, len(value))


def _rows(names: list[str], value: Tensor) -> tuple[Piece, ...]:
    """As many rows of each."""
    each = len(value) // len(names)
    return tuple(Piece(name, 0, each) for name in names)


def shapes(pieces: Table, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a file has to hold: tensors without storage by name."""
    rows: dict[str, int] = {}
    rest: dict[str, torch.Size] = {}
    for ours, parts in pieces.items():
        for piece in parts:
            rows[piece.name] = max(rows.get(piece.name, 0), piece.first + piece.rows)
            rest[piece.name] = own[ours].shape[1:]
    return {name: torch.empty(count, *rest[name], device="meta") for name, count in rows.items()}


def gathered(pieces: Table, own: Mapping[str, Tensor], tensors: dict[str, Tensor], *, where: str) -> dict[str, Tensor]:
    """Our tensors, made of a file's, which leave `tensors` as they are used.

    Raises ConfigError naming a tensor that is missing, misshapen, not finite or belongs nowhere.
    """
    check(shapes(pieces, own), tensors, where=where, whole="policy", finite=True)
    left: dict[str, int] = {}
    for parts in pieces.values():
        for piece in parts:
            left[piece.name] = left.get(piece.name, 0) + piece.rows
    found: dict[str, Tensor] = {}
    for ours, parts in pieces.items():
        cut = [(piece.sign, _cut(tensors[piece.name], piece)) for piece in parts]
        rows = [value if sign == 1 else -value for sign, value in cut]
        found[ours] = torch.cat(rows) if len(rows) > 1 else rows[0].contiguous()
        for piece in parts:
            left[piece.name] -= piece.rows
            if not left[piece.name]:
                del tensors[piece.name]
    return found


def scattered(pieces: Table, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file's tensors, made of ours."""
    found = {name: torch.empty(value.shape) for name, value in shapes(pieces, own).items()}
    for ours, parts in pieces.items():
        rows = own[ours].detach().split_with_sizes([piece.rows for piece in parts])
        for piece, value in zip(parts, rows, strict=True):
            if found[piece.name].dtype != value.dtype:
                found[piece.name] = found[piece.name].to(value.dtype)
            _cut(found[piece.name], piece).copy_(piece.sign * value)
    return found


def _cut(value: Tensor, piece: Piece) -> Tensor:
    return value if piece.rows == len(value) and not piece.first else value.narrow(0, piece.first, piece.rows)


def tidied(tensors: dict[str, Tensor], *, where: str, spoken: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors under openpi's names, and those left aside with the reason.

    Published files hold the table of embeddings under the name of the head that is tied to it, or under both names.
    spoken: the head is another one, and is kept.
    """
    plain: dict[str, Tensor] = {}
    for name in list(tensors):
        short = name.replace("._orig_mod", "").removeprefix("model.")
        if short in plain:
            raise ConfigError(f"{where}: {name}: expected once, found again under the name {short}")
        plain[short] = tensors.pop(name)
    ignored: dict[str, str] = {}
    if HEAD in plain and EMBEDDING not in plain:
        plain[EMBEDDING] = plain.pop(HEAD)
    for name in (HEAD, SPARE):
        if name in plain and not (spoken and name == HEAD):
            del plain[name]
            ignored[name] = "writes words, which moves do without"
    for name in [name for name in plain if name.endswith(".position_ids")]:
        del plain[name]
        ignored[name] = "positions counted from 0, which are computed"
    return plain, ignored
