"""The result of reading a config.json: our network, and the mapping of the family's tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nextmove.interop.hf.tensors import Checkpoint
from nextmove.nn import Gpt


@dataclass(frozen=True)
class Family:
    """One model of one family of layouts."""

    name: str
    config: Any
    trunk: Gpt
    length: int
    """Positions of a sequence."""
    classes: int
    aside: tuple[str, ...]
    """Keys of config.json that change no logits."""
    foreign: Callable[[str], str | None]
    """The name in the file of one of our tensors."""
    pack: Callable[[Checkpoint, Any], None]
    """Brings the file's tensors into our shapes, under the names that `foreign` gives."""
    layers: str = "layers"
    """What the names of a layer's tensors begin with there."""
