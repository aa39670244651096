"""The tensors of a `diffusers` 0.42 UNet2DModel, such as google/ddpm-cifar10-32, under the names of `nn.UNet2d`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nextmove.config import ConfigError
from nextmove.interop.weights import renamed

PLACES = {
    "time_embedding.linear_1": "times.nets.0.0",
    "time_embedding.linear_2": "times.nets.0.2",
    "conv_in": "input",
    "conv_norm_out": "norm",
    "conv_out": "head",
    "mid_block.resnets.0": "middle.blocks.0",
    "mid_block.resnets.1": "bottom",
    "mid_block.attentions.0": "middle.attend.0",
}
SIDES = {"down_blocks": "down", "up_blocks": "up"}
KINDS = {"resnets": "blocks", "attentions": "attend"}
CHANGES = {"downsamplers": "smaller.{}.", "upsamplers": "larger.{}.conv."}
INNER = {"time_emb_proj": "modulation", "conv_shortcut": "skip", "group_norm": "norm", "to_out.0": "attention.out_proj"}
QKV = ("to_q", "to_k", "to_v")
OLD = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
"""Names before `diffusers` 0.12, which it renames on loading."""


def unet2d_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the `nn.UNet2d` network of equal sizes; the projections of queries, keys and values are packed.

    Raises ConfigError for a tensor that has no place there; a missing one is found by `load_state_dict`.
    """
    out = {}
    tensors = {_today(name): value for name, value in tensors.items()}
    for name, value in tensors.items():
        place, _, kind = name.rpartition(".")
        if place.endswith(QKV):
            block = place.rpartition(".")[0]
            if place.endswith("to_q"):
                packed = torch.cat([tensors[f"{block}.{part}.{kind}"] for part in QKV])
                out[f"{unet2d_name(block)}.attention.in_proj_{kind}"] = packed
        else:
            out[unet2d_name(name)] = value
    return out


def _today(name: str) -> str:
    for old, new in OLD.items() if ".attentions." in name else ():
        name = name.replace(old, new)
    return name


def unet2d_name(name: str) -> str:
    """One of their names as ours; ConfigError for a name that a UNet2DModel of convolutions and attention lacks."""
    found = renamed(name, PLACES)
    if found is None:
        side, level, kind, index, *rest = [*name.split("."), "", "", ""]
        if side in SIDES and kind in KINDS:
            found = ".".join([SIDES[side], level, KINDS[kind], index, *rest]).rstrip(".")
        elif side in SIDES and kind in CHANGES:
            found = CHANGES[kind].format(level) + ".".join(rest[1:]).rstrip(".")
        else:
            raise ConfigError(f"tensor {name!r}: has no place in a UNet2d")
    for theirs, ours in INNER.items():
        found = found.replace(f".{theirs}", f".{ours}")
    return found
