"""Parts of a model that are saved as files of their own beside the weights, such as a tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Filed(Protocol):
    """A module that is more than its tensors."""

    def files(self) -> dict[str, str]:
        """Text by file name."""
        ...

    def read_files(self, folder: Path) -> None:
        """Takes its files out of a saved model's folder; raises FileNotFoundError or a ValueError naming the file."""
        ...


def files(model: nn.Module) -> dict[str, str]:
    """All files of a model's parts; raises ValueError where two parts have one name for different files."""
    found: dict[str, str] = {}
    for part in _filed(model):
        for name, text in part.files().items():
            if found.setdefault(name, text) != text:
                raise ValueError(f"{name}: expected one file of this name in a model, found two parts with their own")
    return found


def read_files(model: nn.Module, folder: Path) -> None:
    """Completes a model that was built from a saved config; raises as `Filed.read_files`."""
    for part in _filed(model):
        part.read_files(folder)


def _filed(model: nn.Module) -> Iterator[Filed]:
    return (part for part in model.modules() if isinstance(part, Filed))
