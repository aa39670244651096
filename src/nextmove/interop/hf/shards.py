"""Weights of a folder written whole or, where they are large, in shards with an index, as transformers does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from nextmove import weights
from nextmove.host.files import write_json
from nextmove.interop.hf.tensors import INDEX, WEIGHTS

SHARD = 5 * 10**9
"""Bytes of a file at most, but for one tensor that is larger."""


def write_folder(folder: Path, tensors: Mapping[str, Tensor], shard: int = SHARD) -> list[str]:
    """Writes the tensors and returns the names of the files; raises OSError naming one that cannot be written."""
    groups: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, value in tensors.items():
        if groups[-1] and size + value.nbytes > shard:
            groups.append({})
            size = 0
        groups[-1][name] = value
        size += value.nbytes
    if len(groups) == 1:
        weights.write(folder / WEIGHTS, groups[0])
        return [WEIGHTS]
    stem, _, ending = WEIGHTS.rpartition(".")
    files = [f"{stem}-{i:05d}-of-{len(groups):05d}.{ending}" for i in range(1, len(groups) + 1)]
    for file, group in zip(files, groups, strict=True):
        weights.write(folder / file, group)
    where = {name: file for file, group in zip(files, groups, strict=True) for name in group}
    total = sum(value.nbytes for value in tensors.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))})
    return files
