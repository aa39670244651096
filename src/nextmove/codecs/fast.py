"""FAST: chunks of actions as few ids, the cosine transform's rounded coefficients joined by BPE (Pertsch et al. 2025).

Shapes: B chunks, T steps, D width, N = T D numbers of a chunk.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer as Backend
from tokenizers import models, processors, trainers
from torch import Tensor, nn

from nextmove.codecs.byte_level import byte_level
from nextmove.codecs.spelling import spelling, utf8
from nextmove.codecs.tokenizer import parsed
from nextmove.config import ConfigError

_log = logging.getLogger(__name__)

FILE = "fast_tokenizer.json"
"""Its tokenizer in a saved model, where `tokenizer.json` is that of words."""
LARGEST = 0xD800
"""Numbers that are characters of their own end here."""
BROKEN = "\ufffd"
Ints = NDArray[np.int64]


class Decoded(NamedTuple):
    """Chunks (B, T, D) float64, how many numbers of each were in its ids (B,), and which chunks were whole (B,) bool.

    Of the others, what was not there counts as 0: they are the chunks of their lowest frequencies.
    """

    chunks: Tensor
    found: Tensor
    whole: Tensor


class Fast(nn.Module):
    """A chunk (T, D) is transformed along time (orthonormal DCT-II), multiplied by `scale` and rounded; the integers,
    lowest frequencies of all dimensions first, are the characters of a text whose BPE pieces are the ids.

    All of it in float64: scipy keeps a dtype, and in float32 numbers near a half become other integers. Integers below
    the fitted range are raised to it; a character that was not seen in fitting has no piece and is left out, as in the
    published code (`nearest` finds the nearest that has one).
    """

    state: Tensor

    def __init__(self, *, vocabulary: int = 1024, scale: float = 10.0) -> None:
        """vocabulary: most pieces that are fitted."""
        super().__init__()
        if not 0 < vocabulary < LARGEST:
            raise ValueError(f"vocabulary: expected 1 to {LARGEST - 1} pieces, found {vocabulary}")
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale: expected a finite number above 0, found {scale}")
        self.vocabulary, self.scale = vocabulary, scale
        self.text = ""
        self._backend: Backend | None = None
        self._mark = 0
        # Smallest and largest integer, and a hash of the tokenizer; 0, -1, 0 is one that was not fitted.
        self.register_buffer("state", torch.tensor([0, -1, 0]))

    @property
    def least(self) -> int:
        """The integer that the character 0 stands for."""
        return int(self.state[0])

    @property
    def largest(self) -> int:
        """The largest integer of the fitted data."""
        return int(self.state[1])

    @property
    def fitted(self) -> bool:
        """Whether it can encode."""
        return self.largest >= self.least

    @property
    def backend(self) -> Backend:
        """The `tokenizers.Tokenizer`; raises ValueError where there is none yet."""
        if self._backend is None:
            raise ValueError("fast: expected a tokenizer, found none; fit it on actions or load it first")
        if self._mark != int(self.state[2]):
            raise ValueError("fast: expected the tokenizer that its statistics belong to, found another's; adopt both")
        return self._backend

    @property
    def pieces(self) -> int:
        """Number of ids of the tokenizer."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def fit(self, chunks: Iterable[Any]) -> None:
        """The range of the integers and the pieces, of chunks (T, D), which may differ in T; deterministic.

        Raises ValueError for none, for values not finite, and for integers of more values than the vocabulary has
        pieces, naming how many there are.
        """
        rows = [self.integers(torch.as_tensor(chunk)[None])[0].ravel() for chunk in chunks]
        if not any(map(len, rows)):
            raise ValueError("fast: expected chunks of actions to fit on, found none")
        least, largest = min(int(row.min()) for row in rows), max(int(row.max()) for row in rows)
        if largest - least > self.vocabulary:
            raise ValueError(
                f"fast: expected a vocabulary of at least {largest - least}, one piece for each integer from {least} "
                f"to {largest}, found {self.vocabulary}; a smaller scale than {self.scale:g} makes fewer"
            )
        whole = byte_level(models.BPE())
        whole.post_processor = processors.ByteLevel(trim_offsets=False)
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocabulary, min_frequency=2, show_progress=False, special_tokens=[],
            initial_alphabet=[chr(i) for i in range(largest - least + 1)], max_token_length=10000,
        )  # fmt: skip
        whole.train_from_iterator((_text(row - least) for row in rows), trainer)
        self.take(whole.to_str(), least, largest)

    def take(self, text: str, least: int, largest: int | None = None) -> None:
        """A tokenizer that was fitted already, as `tokenizer.json` has it, and the range of its integers.

        largest: where no file says it, what its own alphabet reaches. Raises ValueError for another kind of tokenizer.
        """
        self._fill(text)
        largest = least + self._reach() if largest is None else largest
        self.state.copy_(torch.tensor([least, largest, self._mark]))

    def adopt(self, other: Fast) -> None:
        """Takes over what the other was fitted to; raises ValueError where it was not."""
        assert other.backend
        self.take(other.text, other.least, other.largest)

    def integers(self, raw: Tensor) -> Ints:
        """round(scale DCT(x)) of chunks (B, T, D), in float64, halves to even; raises ValueError for infinite ones."""
        if raw.dim() != 3:
            raise ValueError(f"actions: expected chunks (B, T, D), found shape {tuple(raw.shape)}")
        if not bool(torch.isfinite(raw).all()):
            raise ValueError("actions: expected finite numbers, found NaN or infinity")
        x = raw.detach().cpu().double().numpy()
        if not x.size:
            return np.zeros(x.shape, np.int64)
        from scipy.fft import dct  # a tenth of a second that most commands have no use for

        return np.around(dct(x, axis=1, norm="ortho") * self.scale).astype(np.int64)

    def symbols(self, raw: Tensor) -> Ints:
        """The numbers of the characters of chunks (B, T, D): integers from the least on, smaller ones raised to it."""
        return np.maximum(self.integers(raw) - self.least, 0)

    def encode(self, raw: Tensor) -> list[list[int]]:
        """The ids of each of the chunks (B, T, D)."""
        return self.spell(self.symbols(raw))

    def spell(self, symbols: Ints) -> list[list[int]]:
        """The ids of characters' numbers (B, ...), row by row; raises ValueError for one that is no character."""
        if symbols.size and symbols.max() >= LARGEST:
            raise ValueError(
                f"actions: expected integers below {self.least + LARGEST}, found {symbols.max() + self.least}"
            )
        texts = [_text(row) for row in symbols.reshape(len(symbols), -1)]
        return [found.ids for found in self.backend.encode_batch(texts)]

    def nearest(self, symbols: Ints) -> Ints:
        """Characters' numbers, each one that has no piece exchanged for the nearest that has."""
        known = self.known
        place = np.clip(np.searchsorted(known, symbols), 1, max(len(known) - 1, 1))
        low, high = known[place - 1], known[np.minimum(place, len(known) - 1)]
        return np.where(symbols - low <= high - symbols, low, high)

    def decode(self, rows: Iterable[Sequence[int]], *, steps: int, width: int, literal: bool = False) -> Decoded:
        """The chunks of lists of ids.

        What is missing is 0, what is too much is left out, and at half a character the chunk ends; such chunks are not
        `whole`. literal: as LeRobot's tolerant decoder has it, where half a character is one of its own, U+FFFD, and so
        a huge number. Raises ValueError for an id that is none.
        """
        from scipy.fft import idct

        count = steps * width
        made, found, whole = [], [], []
        for row in rows:
            text = self._decoded(list(row))
            broken = BROKEN in text
            text = text if literal else text.partition(BROKEN)[0]
            values = np.zeros(count)
            values[: len(text)] = [ord(c) + self.least for c in text[:count]]
            made.append(idct(values.reshape(steps, width) / self.scale, axis=0, norm="ortho"))
            found.append(min(len(text), count))
            whole.append(len(text) == count and (literal or not broken))
        chunks = torch.from_numpy(np.stack(made) if made else np.zeros((0, steps, width)))
        return Decoded(chunks, torch.tensor(found, dtype=torch.long), torch.tensor(whole, dtype=torch.bool))

    @cached_property
    def spelled(self) -> list[bytes]:
        """The bytes of each piece, by id; none of an id without a piece."""
        backend, table = self.backend, {c: byte for byte, c in enumerate(spelling())}
        found = []
        for i in range(self.pieces):
            piece = backend.id_to_token(i) or ""
            # What is not spelled in bytes stands for itself: characters of the alphabet that no byte looks like.
            plain = all(c in table for c in piece)
            found.append(bytes(table[c] for c in piece) if plain else piece.encode())
        return found

    @cached_property
    def known(self) -> Ints:
        """Numbers of the characters that have pieces, ascending."""
        vocabulary, spelled = self.backend.get_vocab(), spelling()
        has = [spelled[byte] in vocabulary for byte in range(256)]
        top = self.largest - self.least
        return np.array([n for n in range(top + 1) if all(has[byte] for byte in utf8(chr(n)))], np.int64)

    def files(self) -> dict[str, str]:
        """Its tokenizer, where it is fitted."""
        return {FILE: self.text} if self.fitted else {}

    def read_files(self, folder: Path) -> None:
        """Takes the tokenizer out of a saved model's folder; one that was saved unfitted has none.

        Raises FileNotFoundError, or ConfigError naming the file for one that is damaged or another model's.
        """
        if not self.fitted:
            return
        path = folder / FILE
        if not path.is_file():
            raise FileNotFoundError(f"{folder}: expected {FILE}, found none")
        text = path.read_text(encoding="utf-8")
        if _hash(text) != int(self.state[2]):
            raise ConfigError(f"{path}: expected the tokenizer that the model was saved with, found another")
        try:
            self._fill(text)
        except ValueError as problem:
            raise ConfigError(f"{path}: {problem}") from None

    def _fill(self, text: str) -> None:
        backend = parsed(text)
        whole = json.loads(text)
        kinds = [(whole.get(part) or {}).get("type") for part in ("model", "pre_tokenizer", "decoder")]
        if kinds != ["BPE", "ByteLevel", "ByteLevel"]:
            raise ValueError(f"expected BPE over bytes, found {kinds}")
        self.text, self._backend, self._mark = text, backend, _hash(text)
        for name in ("spelled", "known"):
            self.__dict__.pop(name, None)

    def _decoded(self, ids: list[int]) -> str:
        if ids and not 0 <= min(ids) <= max(ids) < self.pieces:
            raise ValueError(f"ids: expected 0 to {self.pieces - 1}, found {min(ids)} to {max(ids)}")
        text: str = self.backend.decode(ids, skip_special_tokens=False)
        return text

    def _reach(self) -> int:
        """The last of the characters from 0 on that are pieces: what it was fitted on has an alphabet of these."""
        assert self._backend is not None
        vocabulary, last = self._backend.get_vocab(), 0
        while last + 1 < LARGEST and chr(last + 1) in vocabulary:
            last += 1
        if not last:
            raise ValueError("expected pieces of single characters from 0 on, found none")
        return last


def _text(symbols: Ints) -> str:
    return "".join(map(chr, symbols))


def _hash(text: str) -> int:
    """Of a tokenizer, as a number of 64 bits."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
