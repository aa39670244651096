"""Text as ids: its bytes or its characters; pieces of several are `tokenizer.Tokenizer`'s.

Shapes: L ids.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nextmove.codecs.spelling import utf8

Unit = Literal["bytes", "characters"]


class Text(nn.Module):
    """Invertible map between a text and ids (L,) int64; unit and vocabulary are all there is to it.

    vocabulary: the characters by id; for "bytes" none, an id being the byte. Raises ValueError for a vocabulary that
    does not fit its unit.
    """

    def __init__(self, unit: Unit, vocabulary: Sequence[str] = ()) -> None:
        super().__init__()
        if unit not in get_args(Unit):
            raise ValueError(f"unit: expected bytes or characters, found {unit!r}")
        if (unit == "bytes") != (not vocabulary):
            raise ValueError(f"vocabulary: expected {'none' if unit == 'bytes' else 'tokens'} for {unit}")
        if len(set(vocabulary)) != len(vocabulary):
            raise ValueError("vocabulary: expected every token once, found one twice")
        long = next((token for token in vocabulary if len(token) != 1), None)
        if long is not None:
            raise ValueError(f"vocabulary: expected single characters, found {long!r}")
        self.unit, self.vocabulary = unit, tuple(vocabulary)
        bytewise = unit == "bytes"
        self.pieces = tuple(bytes([i]) for i in range(256)) if bytewise else tuple(map(utf8, self.vocabulary))
        """The bytes that each id stands for."""

    @classmethod
    def fit(cls, unit: Unit, corpus: str) -> Text:
        """The codec of a corpus: its characters by code point, or bytes. Raises ValueError for an empty corpus."""
        if not corpus:
            raise ValueError("corpus: expected text, found none")
        return cls(unit, sorted(set(corpus))) if unit == "characters" else cls(unit)

    @property
    def classes(self) -> int:
        """Number of different ids."""
        return len(self.pieces)

    def encode(self, raw: str) -> Tensor:
        """ids (L,) int64; raises ValueError naming the first character that has none and its position."""
        if self.unit == "characters":
            return torch.from_numpy(self._look_up(raw))
        return torch.frombuffer(bytearray(utf8(raw)), dtype=torch.uint8).long() if raw else _none()

    def prompt(self, raw: str) -> Tensor:
        """ids (L,) of a text that is to be continued."""
        return self.encode(raw)

    def decode(self, x: Tensor) -> str:
        """The text of ids (L,); bytes that are no UTF-8 become U+FFFD. Raises ValueError for an id there is not."""
        return self.bytes_of(x).decode("utf-8", "replace")

    def bytes_of(self, x: Tensor | Iterable[int]) -> bytes:
        """The bytes of ids (L,)."""
        ids = x.tolist() if isinstance(x, Tensor) else list(x)
        for i in ids:
            if not 0 <= i < self.classes:
                raise ValueError(f"x: expected ids from 0 to {self.classes - 1}, found {i}")
        return b"".join(self.pieces[i] for i in ids)

    def stream(self, ids: Iterable[int], after: Iterable[int] = ()) -> Iterator[str]:
        """The text as far as it is certain after each id (often "", never half a character), then what is left.

        All parts joined are what `decode` gives; the ids `after` which they come change nothing.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for i in ids:
            yield decoder.decode(self.bytes_of([i]))
        yield decoder.decode(b"", final=True)

    @cached_property
    def _codes(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Code points in order, and their ids."""
        codes = np.array([ord(c) for c in self.vocabulary], np.uint32)
        order = np.argsort(codes)
        return codes[order], order

    def _look_up(self, raw: str) -> NDArray[np.int64]:
        codes, ids = self._codes
        found = np.frombuffer(raw.encode("utf-32-le", "surrogatepass"), np.uint32)
        place = np.minimum(np.searchsorted(codes, found), len(codes) - 1)
        wrong = np.flatnonzero(codes[place] != found)
        if len(wrong):
            raise self._unknown(raw, int(wrong[0]))
        return ids[place].astype(np.int64)

    def _unknown(self, raw: str, position: int) -> ValueError:
        return ValueError(
            f"text: character {raw[position]!r} at position {position} is not among what the codec knows "
            f"({self.classes} characters)"
        )


def _none() -> Tensor:
    return torch.zeros(0, dtype=torch.long)
