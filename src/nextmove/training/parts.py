"""A stream of batches, and batches cut into parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextmove.contracts import Batch


class Peeked:
    """Batches one by one, of which the first may be looked at before it is taken."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._source = iter(batches)
        self._ahead: list[Batch] = []

    def first(self, step: int) -> Batch:
        """The batch that `take` gives next, with the same error."""
        if not self._ahead:
            self._ahead.append(self.take(step))
        return self._ahead[0]

    def take(self, step: int) -> Batch:
        """The next batch; raises ValueError that names the step where there is none."""
        try:
            return self._ahead.pop() if self._ahead else next(self._source)
        except StopIteration:
            raise ValueError(f"batches: expected one for every step, found the end at step {step}") from None

    def close(self) -> None:
        """Ends what makes them."""
        if hasattr(self._source, "close"):
            self._source.close()


def batch_size(batch: Batch) -> int:
    """Rows of a batch: the length of its first array; raises ValueError if it holds none."""
    for value in batch.values():
        if isinstance(value, Tensor | np.ndarray) and value.ndim:
            return len(value)
        if isinstance(value, Mapping):
            return batch_size(value)
    raise ValueError(f"batch: expected an array, found {sorted(map(str, batch))}")


def numbers(batch: Batch) -> dict[str, Tensor]:
    """The tensors of a batch: what it holds besides them, such as instructions, is left out."""
    return {name: value for name, value in batch.items() if isinstance(value, Tensor)}


def tensors(batch: Batch) -> Iterator[Tensor]:
    """All tensors of a batch, also in what it holds of other mappings."""
    for value in batch.values():
        if isinstance(value, Mapping):
            yield from tensors(value)
        elif isinstance(value, Tensor):
            yield value


def first_rows(batch: Batch, count: int) -> Batch:
    """The first rows of a batch, as many as there are."""
    total = batch_size(batch)
    return batch if count >= total else _cut(batch, slice(0, count), total)


def part(batch: Batch, index: int, count: int) -> Batch:
    """Part number `index` of `count` equal parts; arrays, lists and tuples as long as the batch are cut.

    Raises ValueError if `count` does not divide the rows.
    """
    total = batch_size(batch)
    if total % count:
        raise ValueError(f"accumulate: expected a divisor of the {total} rows of a batch, found {count}")
    if count == 1:
        return batch
    return _cut(batch, slice(index * total // count, (index + 1) * total // count), total)


def _cut(batch: Batch, which: slice, total: int) -> dict[str, Any]:
    def one(value: Any) -> Any:
        if isinstance(value, Mapping):
            return _cut(value, which, total)
        sized = (isinstance(value, Tensor | np.ndarray) and value.ndim > 0) or isinstance(value, list | tuple)
        return value[which] if sized and len(value) == total else value

    return {name: one(value) for name, value in batch.items()}


def to(batch: Batch, device: torch.device) -> dict[str, Any]:
    """The same with every array as a tensor on the device."""

    def one(value: Any) -> Any:
        if isinstance(value, Mapping):
            return to(value, device)
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value

    return {name: one(value) for name, value in batch.items()}
