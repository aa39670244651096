"""Images and what is said of them, to train vision-language models on: a folder of images with a captions file.

Shapes: R rows, B batch, N images of a row at most, h height, w width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextmove.data import identity
from nextmove.data.errors import DataError
from nextmove.data.frames import Bar, Say, no_bar
from nextmove.data.image_fit import Fit
from nextmove.data.image_store import ImageStore, Wanted, stored_images
from nextmove.data.images import HELD
from nextmove.data.pair_rows import Row, read_captions
from nextmove.data.tables import Array

SHOWN = 8
"""Images that cannot be read which are named in a message."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Rows of a captions file, with their images at one size in a store that is mapped into memory.

    index: (R, N) numbers of the rows' images in the store, -1 where a row has fewer than N; notes: what was left out
    or not read.
    """

    rows: tuple[Row, ...]
    index: Array
    store: ImageStore
    notes: tuple[str, ...] = ()

    decodes = False
    """Batches are gathered from memory: processes that load ahead gain nothing."""

    @classmethod
    def read(
        cls,
        folder: Path | str,
        *,
        size: tuple[int, int] = (224, 224),
        fit: Fit = "stretch",
        leave_out_broken: bool = False,
        say: Say = print,
        bar: Bar = no_bar,
    ) -> Pairs:
        """The rows of a folder's captions file; its images are decoded once, at this (height, width).

        leave_out_broken: leaves out, counted and named in `notes`, rows whose images are absent or cannot be read.

        Raises `DataError` naming them otherwise, and for a captions file that is absent or wrong; OSError where the
        disk has no room for the images.
        """
        folder = Path(folder)
        captions = read_captions(folder)
        names = tuple(dict.fromkeys(name for row in captions.rows for name in row.images))
        store = stored_images(Wanted(folder, names, size, fit), say=say, bar=bar)
        notes: tuple[str, ...] = ()
        notes += (f"{captions.path.name}: columns not read: {', '.join(captions.unread)}",) if captions.unread else ()
        rows, broken = captions.rows, store.broken
        if broken:
            bad = [row for row in rows if not broken.keys().isdisjoint(row.images)]
            report = f"{captions.path}: {_listed(folder, broken)}, of {len(bad)} of {len(rows)} rows"
            rows = tuple(row for row in rows if broken.keys().isdisjoint(row.images))
            if not leave_out_broken or not rows:
                raise DataError(f"{report}; mend them, or train without these rows: --leave-out-broken")
            notes += (f"left out: {report}",)
        number = {name: i for i, name in enumerate(names)}
        index = np.full((len(rows), max(len(row.images) for row in rows)), -1, np.int64)
        for place, row in zip(index, rows, strict=True):
            place[: len(row.images)] = [number[name] for name in row.images]
        return cls(rows, index, store, notes)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.store.wanted.size

    @property
    def ids(self) -> Array:
        """(R,) uint64 hashes of what each row shows: all its images' files."""
        hashes = np.append(self.store.hashes, np.uint64(0))[self.index]
        return hashes[:, 0] if hashes.shape[1] == 1 else np.array([identity.hashed(one) for one in hashes], np.uint64)

    @property
    def texts(self) -> list[str]:
        """Every different caption, question and answer once, in order of appearance."""
        return [*dict.fromkeys(text for row in self.rows for text in (row.prompt, row.text) if text)]

    def batch(self, indices: Sequence[int] | Array | Tensor) -> dict[str, Any]:
        """These rows.

        `images` (B, N, h, w, 3) uint8, black where `images_valid` (B, N) is False; `image_ids` (B, N) int64, equal for
        equal image files and -1 for none; lists of B texts: `prompt` ("" for captions), `text`, `kind`.
        """
        chosen = np.asarray(indices, np.int64)
        index = self.index[chosen]
        images = self.store.frames(np.maximum(index, 0).ravel()).reshape(*index.shape, *self.store.wanted.shape)
        images[index < 0] = 0
        rows = [self.rows[i] for i in chosen.tolist()]
        return {
            "images": torch.from_numpy(images),
            "images_valid": torch.from_numpy(index >= 0),
            "image_ids": torch.from_numpy(np.where(index >= 0, self._same[index], -1)),
            "prompt": [row.prompt for row in rows],
            "text": [row.text for row in rows],
            "kind": [row.kind for row in rows],
        }

    @cached_property
    def _same(self) -> Array:
        """(images,) the number of the first image with the same content."""
        _, first, inverse = np.unique(self.store.hashes, return_index=True, return_inverse=True)
        return first[inverse]

    def take(self, chosen: Array) -> Pairs:
        """These rows, by number or by mask (R,), as a set of their own."""
        numbers = np.flatnonzero(chosen) if np.asarray(chosen).dtype == bool else np.asarray(chosen, np.int64)
        return replace(self, rows=tuple(self.rows[i] for i in numbers.tolist()), index=self.index[numbers])

    def of_kinds(self, kinds: Collection[str], source: str = "") -> Pairs:
        """The rows of these kinds, all of none; raises `DataError` naming a kind that no row of the source has."""
        if not kinds:
            return self
        known = Counter(row.kind for row in self.rows)
        for kind in kinds:
            if kind not in known:
                found = ", ".join(f"{name or 'none'} ({count})" for name, count in sorted(known.items()))
                raise DataError(f"{source}: kinds: expected some of {found}, found {kind!r}")
        return self.take(np.array([row.kind in kinds for row in self.rows], bool))

    def split(self) -> tuple[Pairs, Pairs]:
        """The rows to train on, and those for tests: the file's `split`, else those of a tenth of the images.

        Which tenth is decided by content, so that none is trained on after others are added. Raises `DataError` where
        nothing is left to train on, and for an image that the file has on both sides.
        """
        held = np.array([row.held for row in self.rows])
        if any(row.split for row in self.rows):
            seen, tested = self.index[~held], self.index[held]
            both = np.intersect1d(seen[seen >= 0], tested[tested >= 0])
            if len(both):
                name = self.store.wanted.names[int(both[0])]
                raise DataError(
                    f"{self.store.wanted.folder}: {len(both)} images are in rows to train on and in held-out ones, "
                    f"such as {name}; give all rows of an image one split"
                )
            if held.all():
                raise DataError(f"{self.store.wanted.folder}: expected rows to train on, found held-out ones alone")
            return self.take(~held), self.take(held)
        held, notes = identity.held_out(self.ids, HELD, self.store.wanted.folder, "image")
        return replace(self.take(~held), notes=self.notes + notes), self.take(held)

    def parted(self, share: float, seed: int) -> tuple[Pairs, Pairs]:
        """All rows but those of about a share of the images, and those, drawn by `seed`."""
        ids = self.ids
        order = np.random.PCG64(np.random.SeedSequence([seed])).random_raw(len(different := np.unique(ids))).argsort()
        kept = np.isin(ids, different[order[: int(len(different) * share)]])
        return self.take(~kept), self.take(kept)


def _listed(folder: Path, broken: dict[str, str]) -> str:
    """How many images are absent or cannot be read, and the first ones."""
    absent = [name for name in broken if not (folder / name).is_file()]
    damaged = [why for name, why in broken.items() if name not in set(absent)]
    parts = []
    for what, found in (("absent", absent), ("not to be read", damaged)):
        if found:
            more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            parts.append(f"{len(found)} images are {what} ({'; '.join(found[:SHOWN])}{more})")
    return " and ".join(parts)
