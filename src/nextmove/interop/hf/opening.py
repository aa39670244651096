"""Reads a folder of transformers by its model_type: one line a family, language models by default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nextmove.config import read_object
from nextmove.interop.hf import flamingo, idefics, language, llava, paligemma, smolvlm

READERS: dict[str, Callable[..., Any]] = {
    "flamingo": flamingo.load,
    "idefics": idefics.load,
    "idefics3": smolvlm.load,
    "llava": llava.load,
    "paligemma": paligemma.load,
    "smolvlm": smolvlm.load,
}
"""model_type -> `load(folder, dtype=)` of what is no language model alone; it gives a `Read`."""


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Any:
    """The model of a folder with config.json and model.safetensors: a `Language`, or a `Read` of another family.

    dtype: of the weights; None: as the file has them. Raises FileNotFoundError, or ConfigError (a ValueError) naming
    the key or tensor that is wrong.
    """
    kind = read_object(Path(folder) / "config.json").get("model_type")
    return READERS.get(str(kind), language.load)(folder, dtype=dtype)
