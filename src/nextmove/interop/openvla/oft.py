"""The fine-tuned form: heads beside a folder, and the recipe that they make of OpenVLA's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove.config import ConfigError
from nextmove.interop.hf.joined import Part
from nextmove.interop.openvla import heads, layout
from nextmove.interop.openvla.statistics import Bounds, width
from nextmove.interop.weights import renamed
from nextmove.models.policy.openvla import END, SPACE, OpenVla
from nextmove.models.policy.openvla_oft import OpenVlaOft, reading, trunk
from nextmove.models.policy.spec import Timing

CHUNKS = {"libero": 8, "aloha": 25, "bridge": 5}
"""Actions of a chunk, by what the name of a data set contains."""
ARMS = 14
"""Numbers of an action of two arms (ALOHA), whose statistics are the ends of its data."""


@dataclass(frozen=True)
class Heads:
    """What lies beside a folder, if anything does."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    kind: str = ""
    """"regression" or "noise"; "": none."""
    hidden: int = 0
    blocks: int = 0
    actions: int = 0
    proprio: int = 0
    """Numbers of the state; 0 = none is shown."""
    film: bool = False

    def __bool__(self) -> bool:
        return bool(self.kind)

    @property
    def bounds(self) -> Bounds:
        """Which statistics scale actions and state."""
        return "min_max" if self.actions == ARMS else "quantiles"


def read_heads(folder: Path, whole: dict[str, Tensor], dtype: torch.dtype | None) -> Heads:
    """The heads beside a folder; towers that words steer take the place of those in `whole`."""
    path = heads.find(folder, heads.HEAD)
    if path is None:
        if left := [
            part.name for name in (heads.PROPRIO, heads.NOISE, heads.TOWERS) if (part := heads.find(folder, name))
        ]:
            raise ConfigError(
                f"{folder}: expected {heads.HEAD}--STEPS_checkpoint.pt beside {left[0]}, found none; without it the "
                f"folder is OpenVLA's alone, so copy it there, or remove {' and '.join(left)}"
            )
        return Heads()
    own = heads.as_float(heads.read_part(path), dtype)
    kind = heads.kind_of(own, str(path))
    prefix = heads.INSIDE[kind]
    count = heads.count_blocks(own)
    found = {f"{heads.HEAD}.{name}": value for name, value in own.items()}
    names = {ours: prefix + theirs for ours, theirs in heads.blocks(count).items()}
    parts = [Part(heads.HEAD, "decoder.net.head", lambda name: renamed(name, names))]
    actions, hidden = own[f"{prefix}fc2.weight"].shape
    proprio = 0
    for name, ours in ((heads.PROPRIO, "encoder.state"), (heads.NOISE, "decoder.net.inputs")):
        beside = heads.find(folder, name)
        if beside is not None:
            tensors = heads.as_float(heads.read_part(beside), dtype)
            found |= {f"{name}.{key}": value for key, value in tensors.items()}
            parts.append(Part(name, ours, lambda key: renamed(key, heads.MAP)))
            proprio = tensors["fc1.weight"].shape[1] if name == heads.PROPRIO else proprio
    film = heads.find(folder, heads.TOWERS)
    if film is not None:
        steered = heads.as_float(heads.read_part(film), dtype)
        for name in [name for name in whole if layout.canonical(name).startswith(layout.FEATURIZERS)]:
            del whole[name]
        whole |= steered
    return Heads(found, tuple(parts), kind, int(hidden), count, int(actions), proprio, film is not None)


def recipe(base: OpenVla, extra: Heads, stats: Mapping[str, Any], key: str, asked: Any) -> OpenVlaOft:
    """The recipe of heads around a folder; raises ConfigError where a head is of another width than the statistics."""
    wide = width(stats.get("action", {}), f"norm_stats.{key}.action", extra.bounds)
    if wide != extra.actions:
        raise ConfigError(f"norm_stats.{key}.action: expected the head's {extra.actions} numbers, found {wide}")
    steps = asked.horizon or horizon(key, extra.actions)
    scaling: Bounds = extra.bounds
    space = min(SPACE, base.encoder.ids - 1)
    own = replace(reading(base.encoder, END, space), state_scaling=scaling, states=(asked.state,))
    made = OpenVlaOft(
        timing=Timing(1, steps, steps),
        encoder=own if extra.proprio else replace(own, state="none"),
        actions=replace(OpenVlaOft().actions, scaling=scaling),
    )
    body = trunk(extra.hidden, END, space)
    body = replace(body, head=replace(body.head, blocks=extra.blocks))
    made = replace(made, decoder=replace(made.decoder, trunk=body))
    return made.headed("l1" if extra.kind == "regression" else "diffusion")


def horizon(key: str, actions: int) -> int:
    """Actions of a chunk of a data set; raises ConfigError where its name does not say."""
    found = next((steps for name, steps in CHUNKS.items() if name in key.lower()), 0)
    if not found and actions == ARMS:
        found = CHUNKS["aloha"]
    if not found:
        raise ConfigError(
            f"horizon: expected the number of actions of a chunk, for neither the head nor the data set {key!r} says "
            f"it; known are {', '.join(CHUNKS)}"
        )
    return found
