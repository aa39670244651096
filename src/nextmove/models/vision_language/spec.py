"""What a model of images and texts is for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PairSpec:
    """The images and texts a model is for: the size it sees images at, and the tokenizer by which it reads texts.

    A tokenizer is a file beside the weights, of which `classes` is the number of ids and `tokenizer` the hash.
    """

    height: int
    width: int
    classes: int
    """Ids of its tokenizer."""
    length: int
    """Most ids of a text, special ones counted."""
    tokenizer: str = ""
    images: int = 1
    """Most images of a row."""

    def __post_init__(self) -> None:
        for name in ("height", "width", "classes", "length", "images"):
            if getattr(self, name) < 1:
                raise ValueError(f"spec.{name}: expected at least 1, found {getattr(self, name)}")
