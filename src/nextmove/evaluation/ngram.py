"""Interpolated Kneser-Ney, the n-gram model that a network has to beat (Kneser and Ney 1995; Chen and Goodman 1999).

p(w | h) = max(c(h w) - D, 0) / c(h) + D N(h) / c(h) p(w | h'), where h' is h without its first id, N(h) how many ids
follow h, and c counts occurrences at the highest order and different ids in front at the lower ones. D = n1 / (n1 +
2 n2) of each order, from the numbers of grams counted once and twice; under the first order lies 1 / K.

Shapes: L ids, K classes, n order, U different grams.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Counts:
    """One order with one way of counting."""

    grams: Floats
    """(U,) count of each gram."""
    total: Floats
    """Sum of the counts of the grams with each context."""
    spared: Floats
    """D N(h), what is left to lower orders, of each context."""
    discount: float

    @classmethod
    def of(cls, count: Ints, context: Ints, contexts: int) -> _Counts:
        """From the count and the context's number of each gram."""
        once, twice = int((count == 1).sum()), int((count == 2).sum())
        # Without a gram counted once nothing says how much to spare; half an occurrence keeps all ids possible.
        discount = once / (once + 2 * twice) if once else 0.5
        total: Floats = np.bincount(context, count, contexts).astype(np.float64)
        follow: Floats = np.bincount(context, count > 0, contexts).astype(np.float64)
        return cls(count.astype(np.float64), total, discount * follow, discount)


class KneserNey:
    """The model of all orders up to a largest one, fitted on ids (L,)."""

    def __init__(self, ids: Ints, *, classes: int, order: int) -> None:
        """Raises ValueError for no ids, ids outside 0 to `classes` - 1, or an order below 1."""
        ids = _checked(ids, classes)
        if order < 1:
            raise ValueError(f"order: expected at least 1, found {order}")
        self.classes, self.order = classes, order
        self.codes: list[Ints] = []
        """Of each order, what its grams are found by, sorted: number of the context times K + last id."""
        self.exact: list[_Counts] = []
        self.continued: list[_Counts] = []
        rank, contexts = np.zeros(len(ids) + 1, np.int64), 1
        occurrences: list[tuple[Ints, Ints]] = []
        for _ in range(min(order, len(ids))):
            # The gram that ends at i is its context, which ends at i - 1, and the id at i.
            code = rank[:-1] * classes + ids[len(ids) - len(rank) + 1 :]
            codes, first, rank, count = np.unique(code, return_index=True, return_inverse=True, return_counts=True)
            self.codes.append(codes)
            self.exact.append(_Counts.of(count, codes // classes, contexts))
            occurrences.append((rank, first))
            contexts = len(codes)
        for level, (shorter, (rank, first)) in enumerate(zip(self.codes, occurrences[1:], strict=False)):
            # Each different longer gram puts one more id in front of the gram it ends in.
            ends = occurrences[level][0][len(occurrences[level][0]) - len(rank) :][first]
            count = np.bincount(ends, minlength=len(shorter))
            contexts = len(self.codes[level - 1]) if level else 1
            self.continued.append(_Counts.of(count, shorter // classes, contexts))

    def log_prob(self, ids: Ints, order: int | None = None) -> Floats:
        """log p (L,) in nats of each of ids (L,) given those before it, by the model of `order` (default: largest)."""
        ids = _checked(ids, self.classes)
        return np.log(self._probability(ids, self._settled(order)))

    def nats(self, ids: Ints, order: int | None = None) -> float:
        """Mean surprise of an id in nats."""
        return float(-self.log_prob(ids, order).mean())

    def probabilities(self, before: Ints, order: int | None = None) -> Floats:
        """p (K,) of every id after the ids `before`."""
        order = self._settled(order)
        tail = np.asarray(before, np.int64)[max(0, len(before) - order + 1) :]
        rows = np.concatenate([np.repeat(tail[None], self.classes, 0), np.arange(self.classes)[:, None]], 1)
        return np.array([self._probability(row, order)[-1] for row in rows])

    def _settled(self, order: int | None) -> int:
        order = self.order if order is None else order
        if not 1 <= order <= self.order:
            raise ValueError(f"order: expected 1 to {self.order}, found {order}")
        # A corpus shorter than the order has no longer grams.
        return min(order, len(self.codes))

    def _probability(self, ids: Ints, order: int) -> Floats:
        p = np.full(len(ids), 1 / self.classes)
        context = np.zeros(len(ids), np.int64)
        for level in range(order):
            counts = self.exact[level] if level == order - 1 else self.continued[level]
            # `context` is the number of the context that ends before each id, -1 where it has not been seen.
            code = np.where(context >= 0, context * self.classes + ids, -1)
            gram = _find(self.codes[level], code)
            total = np.where(context >= 0, counts.total[context], 0)
            seen = total > 0
            count = np.where(gram >= 0, counts.grams[gram], 0)
            share = np.maximum(count - counts.discount, 0) + counts.spared[context] * p
            p = np.where(seen, np.divide(share, total, out=np.zeros_like(p), where=seen), p)
            context = np.concatenate([[-1], gram[:-1]])
        return p


def best_order(
    train: Ints, held: Ints, *, classes: int, orders: Iterable[int] = range(1, 11)
) -> tuple[int, dict[int, float]]:
    """The order that predicts `held` best, and the nats an id of every order."""
    orders = sorted(orders)
    model = KneserNey(train, classes=classes, order=max(orders))
    nats = {order: model.nats(held, order) for order in orders}
    return min(nats, key=lambda order: nats[order]), nats


def _find(codes: Ints, wanted: Ints) -> Ints:
    """The place of each number in the sorted `codes`, -1 where it is not among them."""
    place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    return np.where(codes[place] == wanted, place, -1)


def _checked(ids: Any, classes: int) -> Ints:
    found = np.asarray(ids, np.int64)
    if found.ndim != 1 or not len(found):
        raise ValueError(f"ids: expected a row of at least one id, found shape {found.shape}")
    if found.min() < 0 or found.max() >= classes:
        raise ValueError(f"ids: expected 0 to {classes - 1}, found {found.min()} to {found.max()}")
    return found
