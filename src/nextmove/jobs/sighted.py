"""A model of images and texts, ours or of transformers, ready for files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove import data, store
from nextmove.config import ConfigError
from nextmove.data.image_files import image_files
from nextmove.data.image_fit import read_fitted
from nextmove.folders import open_folder
from nextmove.interop.hf.paired import paired, seen

BATCH = 64
"""Images that are looked at together."""


@dataclass(frozen=True)
class Sighted:
    """The model, how images come to its size, a hash of its files, and whose it is."""

    model: Any
    fit: str
    hash: str
    whose: str
    used_by: str

    def picture(self, path: Path) -> Tensor:
        """An image file (height, width, 3) uint8 at the model's size; raises DataError naming one that is none."""
        size = (self.model.spec.height, self.model.spec.width)
        return torch.from_numpy(read_fitted(path, size, self.fit).copy())  # type: ignore[arg-type]

    def can(self, method: str) -> bool:
        """Whether the model has what it needs for one of its methods."""
        part = {"embed_images": "reader", "matches": "reader", "caption": "decoder"}[method]
        return hasattr(self.model, method) and getattr(self.model, part, self) is not None

    def able(self, what: str, method: str) -> Sighted:
        """The same; raises ConfigError where the model cannot do it."""
        if not self.can(method):
            raise ConfigError(f"model: expected one that {what}, found {self.whose}, which does not; {self.used_by}")
        return self


def load_sighted(folder: Path | str) -> Sighted:
    """The model of a run, a saved model, or a folder of transformers.

    Raises FileNotFoundError, or ConfigError for a folder that holds something else or whose tokenizer is absent.
    """
    saved = open_folder(folder).expect("vision-language")
    if saved.kind == "nextmove":
        model = store.load(saved.folder)
        how = str(model.facts.get("fit", "stretch"))
    else:
        model = paired(saved.foreign(), saved.folder)
        how = seen(saved.folder, str(saved.config.get("model_type")) != "clip")[0]
    try:
        model.codec.encode("")
    except ValueError as problem:
        raise ConfigError(f"{folder}: {problem}") from None
    return Sighted(model, how, _hash(saved.folder), saved.whose, saved.used_by)


def pictures_in(folder: Path | str) -> list[Path]:
    """The image files of a folder and its subfolders; raises DataError where there is none."""
    if Path(folder).is_file():
        raise data.DataError(f"{folder}: expected a folder of images, found a file")
    found = image_files(Path(folder)) if Path(folder).is_dir() else []
    if not found:
        raise data.DataError(f"{folder}: expected a folder of images, found none in it")
    return found


def in_batches(items: Any, size: int = BATCH) -> Iterator[Any]:
    """The items, so many at a time."""
    return (items[i : i + size] for i in range(0, len(items), size))


def _hash(folder: Path) -> str:
    """Of config, tokenizer and weights."""
    whole = hashlib.blake2b(digest_size=8)
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors"), *folder.glob("*.txt")]):
        with path.open("rb") as file:
            whole.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
