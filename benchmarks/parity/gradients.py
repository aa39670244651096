"""Gradients by the names and in the layout of a foreign file, whatever ours packs, turns or joins of its tensors.

A copy of the file whose elements are numbered is read as any other: each of our parameters then says which elements of
the file it is made of.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nextmove.folders import open_folder

MOST = 1 << 24
"""Elements that float32 can number."""


def gradients(loaded: Any, folder: Path, loss: Tensor, io: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`grad.NAME` of the loss for each such name of the case, by the file's names; {} for a case without any.

    Elements that several parameters are made of (tied ones) have the sum. Raises ValueError for a file of more elements
    than can be numbered.
    """
    wanted = [name.removeprefix("grad.") for name in io if name.startswith("grad.")]
    if not wanted:
        return {}
    tensors = load_file(folder / "model.safetensors")
    starts, total = dict[str, int](), 0
    for name, value in tensors.items():
        starts[name], total = total, total + value.numel()
    if total > MOST:
        raise ValueError(f"{folder}: expected at most {MOST} elements to compare gradients of, found {total}")
    own, numbers = parameters(loaded.model), numbered(folder, tensors, starts)
    grads = torch.autograd.grad(loss, list(own.values()), allow_unused=True)
    flat = torch.zeros(total, dtype=torch.float64)
    for name, grad in zip(own, grads, strict=True):
        if grad is not None:
            flat.index_add_(0, numbers[name].round().long().flatten(), grad.double().flatten())
    return {
        f"grad.{name}": flat[starts[name] :][: tensors[name].numel()].view(tensors[name].shape).float()
        for name in wanted
        if name in tensors
    }


def parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Those that are trained or could be, each once."""
    return dict(model.named_parameters())


def numbered(folder: Path, tensors: Mapping[str, Tensor], starts: Mapping[str, int]) -> dict[str, Tensor]:
    """Our parameters of the file whose element i holds the number i."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(shutil.copytree(folder, Path(name) / "numbered"))
        made = {
            key: torch.arange(starts[key], starts[key] + value.numel(), dtype=torch.float32).view(value.shape)
            if value.is_floating_point()
            else value
            for key, value in tensors.items()
        }
        save_file(made, copy / "model.safetensors", {"format": "pt"})
        found: Any = open_folder(copy).foreign()
        return {key: value.detach().clone() for key, value in parameters(found.model).items()}
