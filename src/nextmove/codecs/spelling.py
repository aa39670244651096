"""Bytes as GPT-2 spells them, and texts as bytes."""

from __future__ import annotations

from functools import cache


@cache
def spelling() -> tuple[str, ...]:
    """GPT-2's character for each byte: itself where it prints in Latin-1, else the next free one from U+0100 on."""
    prints = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in prints else next(others)) for byte in range(256))


def utf8(text: str) -> bytes:
    """The bytes of a text; raises ValueError naming the first character that has none."""
    try:
        return text.encode()
    except UnicodeEncodeError as problem:
        raise ValueError(
            f"text: character {text[problem.start]!r} at position {problem.start} has no UTF-8 bytes"
        ) from None
