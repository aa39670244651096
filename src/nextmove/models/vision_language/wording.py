"""How images, questions and answers become one text, and that text ids.

The marker `<image>` in a text stands for the tokens of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nextmove.codecs.tokenizer import Tokenizer

IMAGE = "<image>"
ENDS = ("</s>", "<|im_end|>", "<eos>", "<|endoftext|>", "<end_of_turn>")
"""Tokens that end a text, in the tokenizers that have them."""


class Turn(NamedTuple):
    """A question about so many images and its answer; a caption's question is ""."""

    question: str
    answer: str = ""
    images: int = 1


@dataclass(frozen=True)
class Wording:
    """The words around images, questions and answers."""

    first: str = ""
    """In front of everything."""
    before: str = ""
    """In front of each question and its images."""
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
    """The token behind an answer; "": the one that ends texts (`ENDS`)."""
    after: str = ""
    """Behind that, in front of another question."""
    special: bool = True
    """Whether what the tokenizer puts in front of texts comes first."""

    def __post_init__(self) -> None:
        if IMAGE not in self.image:
            raise ValueError(f"wording.image: expected a text with {IMAGE}, found {self.image!r}")

    def asked(self, turn: Turn) -> str:
        """The text of a question up to its answer; raises ValueError where it marks another number of images."""
        marked = turn.question.count(IMAGE)
        if marked and marked != turn.images:
            raise ValueError(f"question: expected {turn.images} markers {IMAGE}, one an image, or none, found {marked}")
        shown = "" if marked else self.image * turn.images
        asked = self.question.replace("{}", turn.question) if turn.question else self.caption
        return f"{self.before}{shown}{asked}{self.behind}"


CHAT = Wording(
    before="<|im_start|>user\n",
    caption="Describe the image.",
    behind="<|im_end|>\n<|im_start|>assistant\n",
    end="<|im_end|>",
    after="\n",
    special=False,
)
"""That of SmolLM2 and other models that were trained on ChatML."""
PLAIN = Wording(behind="\n")
"""For a tokenizer that knows nothing of chats."""


def ending(codec: Tokenizer, wording: Wording, stop: Sequence[int] = ()) -> int:
    """The id behind an answer; raises ValueError where the tokenizer has none."""
    if wording.end:
        return codec.id_of(wording.end)
    found = (codec.backend.token_to_id(name) for name in ENDS)
    end = stop[0] if stop else next((i for i in found if i is not None), None)
    if end is None:
        raise ValueError(f"tokenizer: expected a token that ends a text, as one of {', '.join(ENDS)}, found none")
    return int(end)


def ids_of(codec: Tokenizer, text: str, *, place: int, count: int, special: bool = False) -> list[int]:
    """ids of a text in which `count` ids `place` stand for each marker of an image.

    special: with what the tokenizer puts in front of texts.
    """
    ids: list[int] = []
    for i, piece in enumerate(text.split(IMAGE)):
        ids += [place] * count * bool(i)
        own = codec.encode(piece).tolist() if piece else []
        if special and not i:
            whole = codec.prompt(piece).tolist()
            starts = (k for k in range(len(whole) + 1) if whole[k : k + len(own)] == own)
            ids += whole[: next(starts, 0)] if own else whole[:1]
        ids += own
    return ids
