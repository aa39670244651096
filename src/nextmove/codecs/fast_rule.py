"""Which ids may follow so that a chunk of FAST's can be decoded: whole characters, as many as the chunk has numbers.

A rule is an automaton over the pieces' bytes. Its states are what a piece may leave unfinished of a character; how many
characters have begun and the state follow from the last few ids, so nothing is carried from call to call.

Shapes: B rows, i ids so far, K pieces and the end's id, S states, N numbers of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

UNFINISHED = 3
"""Ids that can hold one character between them: one for each of its bytes (the numbers end at three bytes)."""
NEVER = 1 << 30


class Rule:
    """(i, ids (B, i)) to the ids (B, K) bool that may follow, `length` ids at most, the end's among them.

    Every row that keeps to it ends within `length` ids and holds exactly `count` characters, none above `top`. Raises
    ValueError where no row could.
    """

    def __init__(self, spelled: Sequence[bytes], *, count: int, top: int, length: int) -> None:
        """spelled: the bytes of each piece, by id; the id behind them is the end's."""
        self.end, self.count, self.length = len(spelled), count, length
        states, self.after, added = _moves(spelled, top)
        self.begun = torch.tensor([sum(byte & 0xC0 != 0x80 for byte in piece) for piece in spelled] + [0])
        self.left = torch.tensor([max(states.get(_tail(piece), 0), 0) for piece in spelled] + [0])
        needed = _needed(self.after, added, count)
        least = int(needed[0, count]) + 1
        if least > length:
            found = "no pieces make it" if least >= NEVER else f"expected at least {least} ids, found {length}"
            raise ValueError(f"length: a chunk of {count} numbers and its end: {found}")
        # What each piece leaves to be made, in one table by the number of characters left; in front of each state's
        # part and in the last row is `NEVER`, for pieces that finish too many or are not possible.
        most = int(added.max())
        width = count + 1 + most
        self.needed = F.pad(needed, (most, 0, 0, 1), value=NEVER).flatten()
        self.place = torch.where(self.after < 0, len(states), self.after) * width + most - added

    def __call__(self, place: int, before: Tensor) -> Tensor:
        """The ids (B, K) that may stand at `place` behind the ids (B, i); all may behind the end."""
        before = before.cpu()
        ended = ((before == self.end) | (before < 0)).any(1) if place else torch.zeros(len(before), dtype=torch.bool)
        ids = before.clamp(0, self.end)
        state = self._state(ids)
        # A character that has begun and is not finished is still to be made.
        remaining = self.count - self.begun[ids].sum(1) + (state > 0).long()
        needed = self.needed[self.place[state] + remaining[:, None]]
        possible = needed <= self.length - place - 2
        last = (state == 0) & (remaining == 0)
        return torch.cat([possible, last[:, None]], 1) | ended[:, None]

    def _state(self, ids: Tensor) -> Tensor:
        """(B,) what the last id left unfinished."""
        state = torch.zeros(len(ids), dtype=torch.long)
        for piece in ids[:, max(0, ids.shape[1] - UNFINISHED) :].unbind(1):
            # The end's id stands for no bytes.
            going_on = self.after[state, piece.clamp(max=self.end - 1)].clamp(min=0)
            state = torch.where(self.begun[piece] > 0, self.left[piece], going_on)
        return state


def _moves(spelled: Sequence[bytes], top: int) -> tuple[dict[bytes, int], Tensor, Tensor]:
    """The states by what is unfinished in them, shorter ones first, and two tables (S, K) of states and pieces.

    The first is the state that a piece leads to, -1 where it is not possible, the second the characters it finishes.
    """
    found: dict[bytes, dict[int, tuple[bytes, int]]] = {}
    new = {b""}
    # Behind something unfinished only what goes on with it.
    going_on = [i for i, piece in enumerate(spelled) if piece and piece[0] & 0xC0 == 0x80]
    while new:
        for state in new:
            tried = ((i, _step(state, spelled[i], top)) for i in (going_on if state else range(len(spelled))))
            found[state] = {i: step for i, step in tried if step is not None}
        new = {rest for steps in found.values() for rest, _ in steps.values()} - {*found}
    states = {state: i for i, state in enumerate(sorted(found, key=lambda state: (len(state), state)))}
    after = np.full((len(states), len(spelled)), -1)
    added = np.zeros_like(after)
    for state, steps in found.items():
        for i, (rest, made) in steps.items():
            after[states[state], i], added[states[state], i] = states[rest], made
    return states, torch.from_numpy(after), torch.from_numpy(added)


def _step(state: bytes, piece: bytes, top: int) -> tuple[bytes, int] | None:
    """What is unfinished behind a piece, and how many characters it finished; None where it is not possible."""
    whole = state + piece
    rest = _tail(whole)
    try:
        text = whole[: len(whole) - len(rest)].decode()
    except UnicodeDecodeError:
        return None
    if not piece or (text and max(map(ord, text)) > top) or (rest and not _possible(rest, top)):
        return None
    return rest, len(text)


def _tail(piece: bytes) -> bytes:
    """The bytes at the end that begin a character and do not finish it."""
    for back in range(1, min(len(piece), UNFINISHED) + 1):
        lead = piece[-back]
        if lead & 0xC0 != 0x80:
            size = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return piece[-back:] if size > back else b""
    return b""


def _possible(rest: bytes, top: int) -> bool:
    """Whether unfinished bytes can become a character up to `top`."""
    size = 2 if rest[0] < 0xE0 else 3
    if rest[0] >= 0xF0:
        return False
    # The smallest character that begins so: of those of one beginning, lengths and bits rise together.
    for filling in (0x80, 0xA0):
        try:
            return ord((rest + bytes([filling]) + b"\x80" * (size - len(rest) - 1)).decode()) <= top
        except UnicodeDecodeError:
            continue
    return False


def _needed(after: Tensor, added: Tensor, count: int) -> Tensor:
    """(S, N + 1) the fewest pieces that make so many more characters from a state; `NEVER` where none do."""
    possible = after.numpy() >= 0
    start = np.nonzero(possible)[0]
    start, stop, made = np.unique(np.stack([start, after.numpy()[possible], added.numpy()[possible]]), axis=1)
    table = np.full((len(after), count + 1), NEVER)
    table[0, 0] = 0
    for n in range(count + 1):
        # Pieces that finish nothing leave more unfinished than there was, so this ends.
        for _ in range(UNFINISHED):
            rows = made <= n
            np.minimum.at(table[:, n], start[rows], table[stop[rows], n - made[rows]] + 1)
    return torch.from_numpy(np.minimum(table, NEVER))
