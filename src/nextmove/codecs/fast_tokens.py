"""Windows of actions as FAST's ids, for decoders of ids: of any length up to one that is known, with an end.

Shapes: B batch, H horizon, M width, L ids, N = H M numbers of a window.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from nextmove.codecs.fast import Fast
from nextmove.codecs.fast_rule import Rule

_log = logging.getLogger(__name__)

FITTED = 1 << 15
"""Windows that pieces are fitted on at most, evenly out of all."""


def most(vocabulary: int, numbers: int) -> int:
    """The most ids of a window of so many numbers, its end counted: every byte of every character one of its own."""
    return numbers * len(chr(vocabulary).encode()) + 1


class FastTokens(nn.Module):
    """Map between windows (B, H, M) of scaled actions and ids (B, L) of which the last is the end, `classes` - 1.

    Shorter rows are padded with -1, which counts nothing. Integers that have no piece (beyond the fitted range, or
    never seen in it) become the nearest that has, and are counted. What `rule` allows is decoded whole.
    """

    def __init__(self, fast: Fast, *, horizon: int, width: int, length: int = 0) -> None:
        """length: most ids of a window, the end counted; 0 = as many as it may need."""
        super().__init__()
        self.fast, self.horizon, self.width = fast, horizon, width
        self.length = length or most(fast.vocabulary, horizon * width)
        self._rule: tuple[str, Rule] | None = None
        self.moved = self.seen = self.shortened = self.broken = 0
        """Numbers that became others and all of them, windows too long for `length`, and ids that gave no whole one."""

    @property
    def classes(self) -> int:
        """Number of different ids."""
        return self.fast.vocabulary + 1

    @property
    def end(self) -> int:
        """The id behind the last of a window."""
        return self.fast.vocabulary

    @property
    def outside(self) -> float:
        """Share of the numbers encoded so far that have no piece of their own."""
        return self.moved / max(self.seen, 1)

    def fit(self, windows: Iterable[Tensor]) -> None:
        """Fits the pieces on scaled windows (B, H, M) that come part by part.

        Raises ValueError as `Fast.fit`, and where `length` is too short for any window or the pieces are more than the
        vocabulary.
        """
        rows = [row for part in windows for row in part]
        self.fast.fit(rows[:: -(-len(rows) // FITTED)] if rows else rows)
        if self.fast.pieces > self.fast.vocabulary:
            raise ValueError(
                f"fast: expected a vocabulary of at least {self.fast.pieces} pieces for integers from "
                f"{self.fast.least} to {self.fast.largest}, found {self.fast.vocabulary}"
            )
        assert self.rule

    @property
    def rule(self) -> Rule:
        """Which ids may follow (`codecs.fast_rule.Rule`)."""
        fast = self.fast
        if self._rule is None or self._rule[0] != fast.text:
            self._rule = (fast.text, self._made())
        return self._rule[1]

    def _made(self) -> Rule:
        fast = self.fast
        absent = [b""] * (fast.vocabulary - fast.pieces)
        count, top = self.horizon * self.width, fast.largest - fast.least
        return Rule([*fast.spelled, *absent], count=count, top=top, length=self.length)

    def encode(self, raw: Tensor) -> Tensor:
        """Windows (B, H, M) to ids (B, L) int64, as wide as the longest row; -1 behind the ends of the others."""
        symbols = self.fast.symbols(raw)
        near = self.fast.nearest(symbols)
        self.moved, self.seen = self.moved + int((near != symbols).sum()), self.seen + symbols.size
        rows = [[*ids, self.end] for ids in self.fast.spell(near)]
        long = sum(len(row) > self.length for row in rows)
        if long and not self.shortened:
            longest = max(map(len, rows))
            _log.warning("fast: %d of %d windows have more than %d ids, up to %d; their ends are left out",
                         long, len(rows), self.length, longest)  # fmt: skip
        self.shortened += long
        out = torch.full((len(rows), min(self.length, max(map(len, rows), default=1))), -1)
        for i, row in enumerate(rows):
            out[i, : len(row)] = torch.tensor(row[: out.shape[1]])
        return out.to(raw.device)

    def decode(self, x: Tensor) -> Tensor:
        """ids (B, L) up to each row's end to windows (B, H, M).

        Of a row that is cut short the window is that of its lowest frequencies; a warning says how many there are.
        """
        rows = [row[: next((i for i, k in enumerate(row) if k < 0 or k == self.end), len(row))] for row in x.tolist()]
        found = self.fast.decode(rows, steps=self.horizon, width=self.width)
        broken = ~found.whole
        if bool(broken.any()):
            count = self.horizon * self.width
            _log.warning("fast: %d of %d chunks are not whole: %s of %d numbers were in their ids, the others are 0",
                         int(broken.sum()), len(rows), found.found[broken].tolist(), count)  # fmt: skip
            self.broken += int(broken.sum())
        return found.chunks.float().to(x.device)
