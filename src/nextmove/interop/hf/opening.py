"""Reads a folder of transformers by its model_type: one line a family, language models by default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nextmove.config import read_object
from nextmove.interop.hf import (
    bert,
    blip,
    clip,
    dinov2,
    flamingo,
    idefics,
    language,
    llava,
    paligemma,
    siglip,
    smolvlm,
    t5,
    vit,
)

READERS: dict[str, Callable[..., Any]] = {
    "bert": bert.load,
    "blip": blip.load,
    "blip-pretrain": blip.load,
    "clip": clip.load,
    "dinov2": dinov2.load,
    "dinov2_with_registers": dinov2.load,
    "flamingo": flamingo.load,
    "idefics": idefics.load,
    "idefics3": smolvlm.load,
    "llava": llava.load,
    "paligemma": paligemma.load,
    "siglip": siglip.load,
    "smolvlm": smolvlm.load,
    "t5": t5.load,
    "vit": vit.load,
}
"""model_type -> `load(folder, dtype=)` of what is no language model alone; it gives a `Read`."""


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Any:
    """The model of a folder with config.json and model.safetensors: a `Language`, or a `Read` of another family.

    dtype: of the weights; None: as the file has them. Raises FileNotFoundError, or ConfigError (a ValueError) naming
    the key or tensor that is wrong.
    """
    kind = read_object(Path(folder) / "config.json").get("model_type")
    return READERS.get(str(kind), language.load)(folder, dtype=dtype)
