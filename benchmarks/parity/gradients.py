"""Gradients by the names and in the layout of a foreign file, whatever a model packs, turns or joins of its tensors.

A copy of the file whose elements are numbered is read as any other, by ours or by the reference: each parameter then
says which elements of the file it is made of. Numbers end in a half, so that a parameter that is not of the file, such
as a temperature, is told from them, and begin at a half, so that one that is turned round in sign says so.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nextmove.folders import open_folder

FILE = "model.safetensors"
PREFIX = "grad."
MOST = 1 << 22
"""Elements that float32 can number, halves included."""


class Numbered:
    """The tensors of a folder's file, whose elements are numbered in their order.

    Raises ValueError for a file of more elements than can be numbered.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.tensors = folder, load_file(folder / FILE)
        self.starts, self.total = dict[str, int](), 0
        for name, value in self.tensors.items():
            self.starts[name], self.total = self.total, self.total + value.numel()
        if self.total > MOST:
            raise ValueError(f"{folder}: expected at most {MOST} elements to compare gradients of, found {self.total}")

    def parameters(self, read: Callable[[Path], nn.Module]) -> dict[str, Tensor]:
        """Parameters of the file in a model that `read` reads from a folder, with numbers in the elements' places."""
        with tempfile.TemporaryDirectory() as name:
            copy = Path(shutil.copytree(self.folder, Path(name) / "numbered"))
            made = {
                key: torch.arange(self.starts[key], self.starts[key] + value.numel()).add(0.5).view(value.shape)
                if value.is_floating_point()
                else value
                for key, value in self.tensors.items()
            }
            save_file(made, copy / FILE, {"format": "pt"})
            found = {key: value.detach() for key, value in read(copy).named_parameters()}
        return {key: value for key, value in found.items() if bool((value % 1 == 0.5).all())}

    def gradients(self, model: nn.Module, loss: Tensor, read: Callable[[Path], nn.Module]) -> dict[str, Tensor]:
        """`grad.NAME` of the loss for each floating tensor of the file; 0 for what has no part in it.

        Elements that several parameters are made of (tied ones) have the sum.
        """
        own, numbers = dict(model.named_parameters()), self.parameters(read)
        grads = torch.autograd.grad(loss, list(own.values()), allow_unused=True)
        flat = torch.zeros(self.total, dtype=torch.float64)
        for name, grad in zip(own, grads, strict=True):
            if grad is not None and name in numbers:
                number = numbers[name].flatten()
                flat.index_add_(0, number.abs().long(), number.sign() * grad.double().flatten())
        return {
            PREFIX + name: flat[start:][: value.numel()].view(value.shape).float()
            for (name, value), start in zip(self.tensors.items(), self.starts.values(), strict=True)
            if value.is_floating_point()
        }


def named(
    model: nn.Module,
    folder: Path,
    loss: Callable[[], Tensor],
    io: Mapping[str, Tensor],
    read: Callable[[Path], nn.Module],
) -> dict[str, Tensor]:
    """`grad.NAME` of the loss for each such name of the case, by the file's names; {} for a case without any."""
    wanted = [name for name in io if name.startswith(PREFIX)]
    if not wanted:
        return {}
    model.requires_grad_()
    found = Numbered(folder).gradients(model, loss(), read)
    return {name: found[name] for name in wanted if name in found}


def gradients(loaded: Any, folder: Path, loss: Tensor, io: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same of a loss that was computed already, of a model that its folder alone describes."""
    return named(loaded.model, folder, lambda: loss, io, lambda copy: open_folder(copy).foreign().model)
