"""Reads a folder of LeRobot's that holds pi0-FAST as a policy of ours."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove.codecs import fast_files
from nextmove.codecs.fast import Fast
from nextmove.interop.hf.tensors import read_folder
from nextmove.interop.lerobot.config import model_folder
from nextmove.interop.pi import layout, words
from nextmove.interop.pi.config import Sizes
from nextmove.interop.pi.filling import fill
from nextmove.interop.pi.opening import opened
from nextmove.interop.pi_fast.composed import Places, recipe
from nextmove.interop.pi_fast.config import PRE, PiFastConfig, check_steps, parse
from nextmove.interop.report import Loaded, Report
from nextmove.interop.weights import building, naming
from nextmove.models.model import Card
from nextmove.models.policy import Policy

FAST = "action_tokenizer"
"""Where in a folder the tokenizer of actions is, of which LeRobot keeps the name alone."""


def load(
    folder: Path | str,
    *,
    fps: float | None = None,
    dtype: torch.dtype | None = None,
    optional: Collection[str] = (),
    sizes: Sizes | None = None,
    scaled: bool = False,
    fast: Fast | Path | str | None = None,
    places: Places | None = None,
) -> Loaded:
    """The policy of a folder of LeRobot's, or of a training step's folder that holds `pretrained_model`.

    fast: the tokenizer of actions or its published folder; None: `action_tokenizer` in the folder, or what config.json
    names where that is a folder, and without one the policy cannot act. places: of its ids in the vocabulary; None:
    those of tokenizer.json, or PaliGemma's. The rest and errors as of `interop.pi.load`.
    """
    folder = model_folder(folder)
    with naming(folder):
        found = opened(folder, parse, PRE, check_steps, fps=fps, optional=optional, sizes=sizes, scaled=scaled)
        config, ids = found.config, found.sizes.ids
        tensors, told, codec = read_folder(folder, dtype), words.tokenizer(folder, ids), codec_of(folder, config, fast)
        plain, ignored = layout.tidied(tensors, where=str(folder), spoken=_apart(tensors))
        places = places or Places.of(config, ids, told)
        tied = layout.HEAD not in plain
        made = recipe(config, found.sizes, found.spec, places, codec, tied=tied, hash=told.hash)
        with building():
            policy = made.build(found.spec)
        policy.card = Card("pi0-fast", policy.recipe, found.spec)
        pieces = table(policy)
        fill(policy, pieces, plain, where=str(folder), dtype=dtype)
        names = {f"model.{piece.name}": ours for ours, parts in pieces.items() for piece in parts}
        notes = (*give(policy, codec, told), *found.scale(policy), *found.notes)
        report = Report(config.type, found.version, tuple(names), ignored, (), notes)
        return Loaded(policy.eval(), report, config, names)


def _apart(tensors: dict[str, Tensor]) -> bool:
    """Whether a file has a head beside the table of embeddings."""
    found = {name.replace("._orig_mod", "").removeprefix("model.") for name in tensors}
    return {layout.HEAD, layout.EMBEDDING} <= found


def codec_of(folder: Path, config: PiFastConfig, given: Fast | Path | str | None) -> Fast | None:
    """The tokenizer of actions, where it is."""
    if isinstance(given, Fast):
        return given
    if given is not None:
        return fast_files.read(given)
    places = (folder / FAST, Path(config.action_tokenizer_name))
    return next((fast_files.read(place) for place in places if (place / fast_files.CONFIG).is_file()), None)


def table(policy: Any) -> dict[str, tuple[layout.Piece, ...]]:
    """Where each tensor of ours is in a file, by openpi's names."""
    own = policy.state_dict()
    found = layout.prefix(policy, own)
    head = "encoder.language.head.weight"
    return found | ({head: (layout.Piece(layout.HEAD, 0, len(own[head])),)} if head in own else {})


def give(policy: Policy, codec: Fast | None, told: Any) -> list[str]:
    """Gives a policy both tokenizers; what is said of those that are absent."""
    encoder: Any = policy.encoder
    actions: Any = policy.codec
    notes = []
    if codec is None or not codec.fitted:
        notes.append(
            f"no tokenizer of actions: put that of {FAST} into the folder (processor_config.json and tokenizer.json of "
            "lerobot/fast-action-tokenizer), or give `fast`; without it the policy cannot act"
        )
    else:
        actions.fast.fast.adopt(codec)
    if told.files():
        encoder.tokenizer.adopt(told)
    else:
        notes.append("no tokenizer.json: put that of google/paligemma-3b-pt-224 into the folder")
    return notes
