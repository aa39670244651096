"""What a `tokenizer.model` of SentencePiece holds, read from its protocol buffer field by field.

Fields and their numbers are those of sentencepiece_model.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nextmove.config import ConfigError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""What a piece is; GGUF files use the same numbers."""
KINDS: Mapping[int, Literal["unigram", "bpe"]] = {1: "unigram", 2: "bpe"}


class Piece(NamedTuple):
    """A piece of text, how much it is worth, and what it is."""

    text: str
    score: float
    kind: int = NORMAL


@dataclass(frozen=True)
class Pieces:
    """A model of SentencePiece: its pieces by id, and how texts are brought to it."""

    pieces: tuple[Piece, ...]
    kind: Literal["unigram", "bpe"]
    prefix: bool = True
    """Whether a blank is put in front of a text."""
    trim: bool = True
    """Whether blanks at the ends, and of several all but one, are left out."""
    charsmap: bytes = b""
    """Characters and what stands for them, as a table of SentencePiece's; empty: nothing is exchanged."""
    byte_fallback: bool = False
    """Whether characters without a piece become bytes."""
    ids: Mapping[str, int] = field(default_factory=dict)
    """Ids of `unk`, `bos`, `eos` and `pad`, where there are any."""


def read_pieces(path: Path) -> Pieces:
    """The model of a file; raises ConfigError naming it where it is damaged, or of words or characters."""
    try:
        return parse_pieces(path.read_bytes())
    except (ValueError, struct.error) as problem:
        raise ConfigError(f"{path}: expected a model of SentencePiece, found {problem}") from None


def parse_pieces(content: bytes) -> Pieces:
    """The model of a file's content; raises ValueError where it is none."""
    fields = [*_fields(content)]
    trainer = dict(part for number, value in fields if number == 2 for part in _fields(_bytes(value)))
    normal = dict(part for number, value in fields if number == 3 for part in _fields(_bytes(value)))
    pieces = tuple(_piece(_bytes(value)) for number, value in fields if number == 1)
    if not pieces:
        raise ValueError("no pieces")
    kind = trainer.get(3, 1)
    if kind not in KINDS:
        raise ValueError(f"one of words or characters (model_type {kind}); those of unigram and bpe are read")
    if trainer.get(24, 0):
        raise ValueError("one that marks blanks behind words (treat_whitespace_as_suffix), which is not read")
    if not normal.get(5, 1):
        raise ValueError("one that leaves blanks as they are (escape_whitespaces false), which is not read")
    found = {
        "unk": trainer.get(40, 0),
        "bos": trainer.get(41, 1),
        "eos": trainer.get(42, 2),
        "pad": trainer.get(43, -1),
    }
    return Pieces(
        pieces,
        KINDS[kind],
        prefix=bool(normal.get(3, 1)),
        trim=bool(normal.get(4, 1)),
        charsmap=_bytes(normal.get(2, b"")),
        byte_fallback=bool(trainer.get(35, 0)),
        ids={name: _signed(i) for name, i in found.items() if 0 <= _signed(i) < len(pieces)},
    )


def _piece(content: bytes) -> Piece:
    fields = dict(_fields(content))
    (score,) = struct.unpack("<f", fields.get(2, b"\0\0\0\0"))
    return Piece(_bytes(fields.get(1, b"")).decode(), score, int(fields.get(3, NORMAL)))


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers of fields with integers, or with the bytes of what is longer or of fixed width."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(content, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(content, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field of unknown kind {wire} at byte {at}")
        if at + size > len(content):
            raise ValueError(f"its end inside a field at byte {at}")
        yield number, content[at : at + size]
        at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        if at >= len(content) or shift > 63:
            raise ValueError(f"its end inside a number at byte {at}")
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number where a text was expected")
    return value
