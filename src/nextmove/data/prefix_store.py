"""Prefixes on disk: the keys and values that a frozen language model makes of each frame, mapped into memory.

A store is a folder: `prefixes.json` says what they were made from, segments hold them. A segment is one file: frames
one after the other, each (L, 2, G, P, E) without padding, and behind them which frames these are and their P. It is
written whole, so that an interrupted making goes on where it was, and another training adds the frames it needs.

Shapes: B rows, L layers, G heads, P tokens of a frame, E width of a head.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nextmove.data.errors import DataError
from nextmove.data.tables import Array
from nextmove.host.files import naming, read_json, replacing, write_json

FORMAT, END = 1, 8
SEGMENT = 256 << 20
"""Bytes from which a segment ends."""
NAMES = "prefixes.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Dtype = Literal["float32", "bfloat16"]


class PrefixStore:
    """Prefixes of frames by their row in the data set.

    made_from: hashes by name (data, backbone, preprocessing) of all that decides them. Raises DataError naming the
    first that the folder's prefixes were not made from.
    """

    def __init__(self, folder: Path, made_from: Mapping[str, str], dtype: Dtype) -> None:
        self.folder, self.dtype = folder, dtype
        known = {"format": FORMAT, "dtype": dtype, **made_from}
        path = folder / NAMES
        if path.is_file():
            _check(path, read_json(path, DataError), known)
        else:
            write_json(path, known)
        self._at: dict[int, tuple[Array, int, int]] = {}
        self._shape: tuple[int, ...] = ()
        for segment in sorted(folder.glob("segment-*.kv")):
            self._map(segment)

    def missing(self, rows: Array) -> Array:
        """Those of the frames that it has not."""
        return rows[[row not in self._at for row in rows.tolist()]]

    def add(self, rows: Array, make: Callable[[Array], Mapping[str, Tensor]], each: int) -> Iterator[int]:
        """Makes and keeps the prefixes of frames, `each` at once; yields how many are done.

        make: `keys` and `values` (B, L, G, P, E) and `mask` (B, P) of frames. Raises OSError that names the file.
        """
        done = 0
        while done < len(rows):
            number = len(list(self.folder.glob("segment-*.kv")))
            path = self.folder / f"segment-{number:05d}.kv"
            held: list[int] = []
            counts: list[int] = []
            with replacing(path) as part, naming(path), part.open("wb") as file:
                size = 0
                while done < len(rows) and size < SEGMENT:
                    some = rows[done : done + each]
                    for kept in _apart(make(some), DTYPES[self.dtype]):
                        self._shape = (*kept.shape[:3], kept.shape[4])
                        counts.append(kept.shape[3])
                        file.write(kept.view(torch.uint8).numpy().data)
                        size += kept.nbytes
                    held += some.tolist()
                    done += len(some)
                    yield done
                text = json.dumps({"rows": held, "tokens": counts, "shape": self._shape}).encode()
                file.write(text + len(text).to_bytes(END, "little"))
            self._map(path)

    def batch(self, rows: Array) -> dict[str, Tensor]:
        """`keys` and `values` (B, L, G, P, E) of frames, and `mask` (B, P), False for padding."""
        if len(absent := self.missing(rows)):
            raise DataError(f"{self.folder}: no prefix of frame {absent[0]}; it is made before a training begins")
        found = [self._at[row] for row in rows.tolist()]
        longest = max(count for _, _, count in found)
        layers, two, heads, width = self._shape
        out = torch.empty(len(rows), layers, two, heads, longest, width, dtype=DTYPES[self.dtype])
        for i, (values, first, count) in enumerate(found):
            size = layers * two * heads * count * width * out.itemsize
            kept = torch.from_numpy(values[first : first + size]).view(out.dtype)
            out[i, :, :, :, :count] = kept.view(layers, two, heads, count, width)
            out[i, :, :, :, count:] = 0  # What no query reads has to be finite all the same.
        counts = torch.tensor([count for _, _, count in found])
        return {"keys": out[:, :, 0], "values": out[:, :, 1], "mask": torch.arange(longest) < counts[:, None]}

    @property
    def bytes(self) -> int:
        """What it takes on the disk."""
        return sum(path.stat().st_size for path in self.folder.glob("segment-*.kv"))

    def _map(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                # Copied on writing, which nobody does: torch asks for memory that may be written.
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            values = np.frombuffer(mapped, np.uint8)
            length = int.from_bytes(values[-END:].tobytes(), "little")
            said = json.loads(values[-END - length : -END].tobytes())
            layers, two, heads, width = said["shape"]
            sizes = np.array(said["tokens"], np.int64) * layers * two * heads * width * DTYPES[self.dtype].itemsize
            if sizes.sum() + length + END != len(values):
                raise ValueError("it is cut short")
        except (ValueError, KeyError, TypeError) as problem:
            raise DataError(f"{path}: damaged ({problem}); remove it, and it is made again") from None
        self._shape = (layers, two, heads, width)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).tolist()
        for row, first, count in zip(said["rows"], starts, said["tokens"], strict=True):
            self._at[row] = (values, first, count)


class Prefixed:
    """Windows without their pictures, with the prefixes that were kept of them as `prefix`."""

    decodes = False

    def __init__(self, windows: Any, store: PrefixStore) -> None:
        self.windows, self.store = windows, store

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, indices: Sequence[int] | Array | Tensor) -> dict[str, Any]:
        """As of the windows, with `prefix`: `PrefixStore.batch`."""
        found: dict[str, Any] = self.windows.batch(indices)
        return found | {"prefix": self.store.batch(found["index"].numpy())}


class Later(Mapping[str, Any]):
    """A batch whose prefixes are read from the store each time they are asked for, and not held between."""

    def __init__(self, batch: Mapping[str, Any], store: PrefixStore) -> None:
        self._batch, self._store = batch, store

    def __getitem__(self, name: str) -> Any:
        return self._store.batch(self._batch["index"].numpy()) if name == "prefix" else self._batch[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._batch
        yield "prefix"

    def __len__(self) -> int:
        return len(self._batch) + 1


def _apart(made: Mapping[str, Tensor], dtype: torch.dtype) -> Iterator[Tensor]:
    """Each row's keys and values (L, 2, G, P, E) without padding."""
    both = torch.stack([made["keys"], made["values"]], 2)
    for row, valid in zip(both, made["mask"], strict=True):
        yield row[..., valid, :].to("cpu", dtype).contiguous()


def _check(path: Path, found: Any, expected: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        other = found.get(name) if isinstance(found, dict) else None
        if other != value:
            raise DataError(
                f"{path.parent}: the prefixes there were made with another {name} (expected {value}, found {other}); "
                "choose another folder, or remove this one and they are made anew"
            )
