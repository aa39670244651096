"""Text as ids: bytes, characters, or pieces joined from bytes (BPE; Sennrich et al. 2016, on bytes as in GPT-2).

Letters: L ids, K classes.
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

Unit = Literal["bytes", "characters", "bpe"]


class Text(nn.Module):
    """Invertible map between a text and ids (L,) int64; unit, vocabulary and merges are all there is to it.

    vocabulary: token by id. For "characters" the characters; for "bpe" pieces in GPT-2's spelling of bytes, whose
    `merges` are pairs "a b" in order; for "bytes" none, an id being the byte. Raises ValueError for a vocabulary that
    does not fit its unit.
    """

    def __init__(self, unit: Unit, vocabulary: Sequence[str] = (), merges: Sequence[str] = ()) -> None:
        super().__init__()
        if unit not in get_args(Unit):
            raise ValueError(f"unit: expected bytes, characters or bpe, found {unit!r}")
        if (unit == "bytes") != (not vocabulary):
            raise ValueError(f"vocabulary: expected {'none' if unit == 'bytes' else 'tokens'} for {unit}")
        if merges and unit != "bpe":
            raise ValueError(f"merges: expected none for {unit}, found {len(merges)}")
        if len(set(vocabulary)) != len(vocabulary):
            raise ValueError("vocabulary: expected every token once, found one twice")
        self.unit, self.vocabulary, self.merges = unit, tuple(vocabulary), tuple(merges)
        self.pieces = _pieces(unit, self.vocabulary)
        """The bytes that each id stands for."""

    @classmethod
    def fit(cls, unit: Unit, corpus: str, *, size: int = 1024) -> Text:
        """The codec of a corpus: its characters in the order of their code points, or `size` pieces of BPE.

        Raises ValueError for an empty corpus.
        """
        if not corpus:
            raise ValueError("corpus: expected text, found none")
        if unit == "characters":
            return cls(unit, sorted(set(corpus)))
        return cls(unit, *_train(corpus, size)) if unit == "bpe" else cls(unit)

    @property
    def classes(self) -> int:
        """Number of different ids."""
        return len(self.pieces)

    def encode(self, raw: str) -> Tensor:
        """ids (L,) int64; raises ValueError naming the first character that has none and its position."""
        if self.unit == "characters":
            return torch.from_numpy(self._look_up(raw))
        if self.unit == "bytes":
            return torch.frombuffer(bytearray(_utf8(raw)), dtype=torch.uint8).long() if raw else _none()
        missing = self._missing
        position = next((i for i, c in enumerate(raw) if not missing.isdisjoint(_utf8(c))), -1) if missing else -1
        if position >= 0:
            raise self._unknown(raw, position)
        _utf8(raw)
        return torch.tensor(self._bpe.encode(raw, add_special_tokens=False).ids, dtype=torch.long)

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

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The text as far as it is certain after each id (often "", never half a character), then what is left.

        All parts joined are what `decode` gives.
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
            f"({self.classes} {'characters' if self.unit == 'characters' else 'pieces'})"
        )

    @cached_property
    def _missing(self) -> frozenset[int]:
        """Bytes without a piece of their own."""
        return frozenset(range(256)) - {piece[0] for piece in self.pieces if len(piece) == 1}

    @cached_property
    def _bpe(self) -> Any:
        tokenizers = _tokenizers()
        table = {token: i for i, token in enumerate(self.vocabulary)}
        pairs = [tuple(pair.split(" ")) for pair in self.merges]
        for pair in pairs:
            if len(pair) != 2 or any(part not in table for part in (*pair, "".join(pair))):
                raise ValueError(f"merges: expected pairs of pieces whose join is a piece, found {' '.join(pair)!r}")
        return _byte_level(tokenizers.models.BPE(table, pairs))


def _pieces(unit: Unit, vocabulary: Sequence[str]) -> tuple[bytes, ...]:
    if unit == "bytes":
        return tuple(bytes([i]) for i in range(256))
    if unit == "characters":
        long = next((token for token in vocabulary if len(token) != 1), None)
        if long is not None:
            raise ValueError(f"vocabulary: expected single characters, found {long!r}")
        return tuple(_utf8(token) for token in vocabulary)
    spelt = {c: byte for byte, c in enumerate(_spelling())}
    # A special token may be spelt with other characters, which stand for themselves.
    return tuple(b"".join(bytes([spelt[c]]) if c in spelt else _utf8(c) for c in token) for token in vocabulary)


def _spelling() -> list[str]:
    """GPT-2's character for each byte: itself where it prints in Latin-1, else the next free one from U+0100 on."""
    prints = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in prints else next(others)) for byte in range(256)]


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as problem:
        raise ValueError(
            f"text: character {text[problem.start]!r} at position {problem.start} has no UTF-8 bytes"
        ) from None


def _none() -> Tensor:
    return torch.zeros(0, dtype=torch.long)


def _byte_level(model: Any) -> Any:
    """A tokenizer over bytes that adds nothing to the text."""
    tokenizers = _tokenizers()
    whole = tokenizers.Tokenizer(model)
    whole.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return whole


def _train(corpus: str, size: int) -> tuple[list[str], list[str]]:
    """Vocabulary and merges of `size` pieces, the 256 bytes first."""
    import json

    if size < 256:
        raise ValueError(f"size: expected at least the 256 bytes, found {size}")
    _utf8(corpus)
    tokenizers = _tokenizers()
    whole = _byte_level(tokenizers.models.BPE())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=sorted(_spelling()), show_progress=False, special_tokens=[]
    )
    whole.train_from_iterator(corpus.splitlines(keepends=True), trainer)
    model = json.loads(whole.to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return sorted(model["vocab"], key=model["vocab"].get), merges


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise ImportError("bpe: needs the package `tokenizers`; install nextmove[text]") from None
    return tokenizers
