"""GGUF files: metadata and tensors by name, the tensors as the file packs them.

Layout: the magic number, version, counts; keys with values; names, sizes, formats and offsets of tensors; then,
aligned, their bytes (ggml's gguf.md, versions 2 and 3). Nothing of the tensors is read before it is touched.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nextmove.config import ConfigError
from nextmove.weights.packed import FORMATS, Packed, row_bytes

MAGIC, VERSIONS = b"GGUF", (2, 3)
NUMBERS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
"""Types of values in numpy's names."""
STRING, ARRAY = 8, 9
KINDS = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
    29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}  # fmt: skip
"""Numbers of formats; those we read are in `packed.FORMATS`."""


@dataclass(frozen=True)
class Gguf:
    """What a file holds."""

    path: Path
    version: int
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Packed]

    def get(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """A value of the metadata; raises ConfigError for an absent one without default, or one of another type."""
        found = self.metadata.get(key, default)
        if found is None:
            raise ConfigError(f"{self.path}: {key}: expected a value, found none")
        if not isinstance(found, kind):
            names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise ConfigError(f"{self.path}: {key}: expected {names}, found {type(found).__name__}")
        return found

    @property
    def kinds(self) -> dict[str, int]:
        """How many tensors there are of each format."""
        found = [tensor.kind for tensor in self.tensors.values()]
        return {kind: found.count(kind) for kind in sorted(set(found))}

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def read_gguf(path: Path | str) -> Gguf:
    """Opens a file; its tensors are its pages, which must not be changed in place meanwhile.

    Raises FileNotFoundError, or ConfigError for a file that is none or is cut off, and for a tensor in a format that we
    lack, naming it and those we have.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a GGUF file, found none")
    if path.stat().st_size < len(MAGIC):
        raise ConfigError(f"{path}: expected a GGUF file, found one of {path.stat().st_size} bytes")
    # Private pages, since torch has no tensors that cannot be written to.
    with path.open("rb") as file:
        whole = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
    cursor = _Cursor(path, whole.data)
    try:
        return _read(path, whole, cursor)
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{path}: damaged: a text at byte {cursor.at} is not UTF-8 ({problem.reason})") from None


def _read(path: Path, whole: Any, cursor: _Cursor) -> Gguf:
    if cursor.take(len(MAGIC)) != MAGIC:
        raise ConfigError(f"{path}: expected a GGUF file, which begins with {MAGIC!r}")
    version = cursor.number("<I")
    if version not in VERSIONS:
        why = " (of a machine of the other byte order)" if version in (2 << 24, 3 << 24) else ""
        raise ConfigError(f"{path}: version: expected {' or '.join(map(str, VERSIONS))}, found {version}{why}")
    count, keys = cursor.number("<Q"), cursor.number("<Q")
    metadata = {}
    for _ in range(keys):
        key = cursor.text()
        metadata[key] = cursor.value(cursor.number("<I"), key)
    places = [_place(cursor) for _ in range(count)]
    step = metadata.get("general.alignment", 32)
    if not isinstance(step, int) or step < 1:
        raise ConfigError(f"{path}: general.alignment: expected a positive integer, found {step!r}")
    start = -(-cursor.at // step) * step
    tensors = {place.name: _tensor(path, whole, start, place) for place in places}
    if len(tensors) < len(places):
        raise ConfigError(f"{path}: expected {len(places)} tensors of different names, found {len(tensors)}")
    return Gguf(path, version, metadata, tensors)


@dataclass(frozen=True)
class _Place:
    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


def _place(cursor: _Cursor) -> _Place:
    name = cursor.text()
    count = cursor.number("<I")
    # The file names the innermost dimension first.
    shape = tuple(cursor.number("<Q") for _ in range(count))[::-1]
    return _Place(name, shape, cursor.number("<I"), cursor.number("<Q"))


def _tensor(path: Path, whole: Any, start: int, place: _Place) -> Packed:
    kind = KINDS.get(place.kind, f"number {place.kind}")
    if kind not in FORMATS:
        raise ConfigError(f"{path}: {place.name}: expected one of the formats {', '.join(FORMATS)}, found {kind}")
    if not place.shape:
        raise ConfigError(f"{path}: {place.name}: expected at least one dimension, found none")
    try:
        row = row_bytes(kind, place.shape[-1])
    except ValueError as problem:
        raise ConfigError(f"{path}: {place.name}: {problem}") from None
    first = start + place.offset
    last = first + math.prod(place.shape[:-1]) * row
    if last > len(whole):
        raise ConfigError(
            f"{path}: cut off: {place.name} ends at byte {last}, found {len(whole)} bytes; take it from where it came"
        )
    raw = torch.from_numpy(whole[first:last]).view(*place.shape[:-1], row)
    return Packed(kind, place.shape, raw)


class _Cursor:
    """A place in a file's bytes, from which values are read one behind another."""

    def __init__(self, path: Path, data: memoryview) -> None:
        self.path, self.data, self.at = path, data, 0

    def take(self, size: int) -> memoryview:
        first, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise ConfigError(
                f"{self.path}: cut off: expected {size} bytes at {first} of its header, found {len(self.data) - first}"
            )
        return self.data[first : self.at]

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def text(self) -> str:
        return str(self.take(self.number("<Q")), "utf-8")

    def value(self, kind: int, key: str) -> Any:
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            inner, count = self.number("<I"), self.number("<Q")
            if inner in NUMBERS:
                dtype = np.dtype(NUMBERS[inner])
                return np.frombuffer(self.take(count * dtype.itemsize), dtype).tolist()
            return [self.value(inner, key) for _ in range(count)]
        if kind not in NUMBERS:
            raise ConfigError(f"{self.path}: {key}: expected a type of GGUF, found number {kind}")
        dtype = np.dtype(NUMBERS[kind])
        return np.frombuffer(self.take(dtype.itemsize), dtype)[0].item()
