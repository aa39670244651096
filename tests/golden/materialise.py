"""Writes the checkpoint that a golden case's `weights.json` describes; the case itself holds no weights.

`weights.json` is {"seed": int, "files": {FILE: {NAME: [SHAPE, DTYPE, KIND]}}}; a tensor is a function of seed, name,
shape and kind. With u uniform in [-1, 1) drawn by PCG64 seeded with crc32("seed:name"):

    weight u sqrt(3 / fan_in), fan_in = product of shape[1:]; embedding u / 2; bias u / 10; norm 1 + u / 5; gemma u / 5;
    mean u / 5; var 1 + u / 2; zero 0; arange 0, 1, 2, ... in row-major order
"""

from __future__ import annotations

import json
import math
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

AFFINE = {
    "embedding": (0.5, 0.0),
    "bias": (0.1, 0.0),
    "norm": (0.2, 1.0),
    "gemma": (0.2, 0.0),
    "mean": (0.2, 0.0),
    "var": (0.5, 1.0),
}


def tensor(seed: int, name: str, shape: Sequence[int], kind: str) -> NDArray[Any]:
    """One named array, float32 (int64 for "arange")."""
    size = tuple(shape)
    if kind == "arange":
        return np.arange(math.prod(size), dtype=np.int64).reshape(size)
    if kind == "zero":
        return np.zeros(size, np.float32)
    if kind == "weight":
        scale, shift = math.sqrt(3 / max(1, math.prod(size[1:]))), 0.0
    else:
        scale, shift = AFFINE[kind]
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(f"{seed}:{name}".encode())))
    u = generator.random(size, dtype=np.float32) * np.float32(2) - np.float32(1)
    return np.asarray(u * np.float32(scale) + np.float32(shift), np.float32)


def tensors(seed: int, described: Mapping[str, Sequence[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays of one file."""
    made = {}
    for name, (shape, dtype, kind) in described.items():
        array = tensor(seed, name, shape, kind)
        made[name] = array if kind == "arange" else array.astype(dtype)
    return made


def materialise(case: Path, out: Path) -> Path:
    """Copies `case` to `out`, writes every file its weights.json lists there and returns `out`."""
    for path in sorted(p for p in case.rglob("*") if p.is_file()):
        # Contents only: a read-only case must not give a read-only copy.
        copy = out / path.relative_to(case)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    recipe = json.loads((case / "weights.json").read_text())
    for file, described in recipe["files"].items():
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors(recipe["seed"], described), out / file, metadata={"format": "pt"})
    return out
