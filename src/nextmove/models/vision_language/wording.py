"""How images, a question and its answer become one text, and that text ids.

The marker `<image>` in a text stands for the tokens of an image.
"""

from __future__ import annotations

from dataclasses import dataclass

from nextmove.codecs.tokenizer import Tokenizer

IMAGE = "<image>"


@dataclass(frozen=True)
class Wording:
    """The words around images and questions."""

    before: str = ""
    """In front of everything."""
    image: str = IMAGE
    """For each image, in front of the question, where the question itself has no marker."""
    question: str = "{}"
    """The question, for which {} stands."""
    caption: str = ""
    """In place of a question where a caption is asked for."""
    behind: str = ""
    """Between question and answer."""
    gap: str = ""
    """What an answer begins with."""
    end: str = ""
    """The token behind an answer; "": the one that ends texts."""
    special: bool = True
    """Whether the tokenizer's own tokens come in front, such as one that begins a text."""

    def __post_init__(self) -> None:
        if IMAGE not in self.image:
            raise ValueError(f"wording.image: expected a text with {IMAGE}, found {self.image!r}")

    def asked(self, question: str, images: int) -> str:
        """The text up to the answer; raises ValueError where the question marks another number of images."""
        marked = question.count(IMAGE)
        if marked and marked != images:
            raise ValueError(f"question: expected {images} markers {IMAGE}, one an image, or none, found {marked}")
        shown = "" if marked else self.image * images
        asked = self.question.replace("{}", question) if question else self.caption
        return f"{self.before}{shown}{asked}{self.behind}"


def ids_of(codec: Tokenizer, text: str, *, place: int, count: int, special: bool) -> list[int]:
    """ids of a text in which `count` ids `place` stand for each marker of an image."""
    ids: list[int] = []
    for i, piece in enumerate(text.split(IMAGE)):
        ids += [place] * count * bool(i)
        if i == 0 and special:
            ids += codec.prompt(piece).tolist()
        elif piece:
            ids += codec.encode(piece).tolist()
    return ids
