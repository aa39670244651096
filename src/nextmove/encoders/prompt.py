"""The words that a language model reads before it acts: an instruction in a template, a state in numbered bins.

Shapes: B batch, D width of a state, L ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nextmove.codecs.byte_level import byte_tokenizer
from nextmove.codecs.tokenizer import Tokenizer, Tokens

TASK_FIELD, STATE_FIELD = "{task}", "{state}"


@dataclass(frozen=True)
class Prompt:
    """How instruction and state become one text, and by which tokenizer that becomes ids."""

    template: str = "{task}\n"
    """`{task}` stands for the instruction, `{state}` for the numbers of the state's bins (pi0.5)."""
    length: int = 48
    """Most ids; a longer text is an error."""
    clean: bool = False
    """Without space around it, and spaces for underscores and line breaks in it (openpi)."""
    lower: bool = False
    """Small letters only (OpenVLA, pi0-FAST)."""
    special: bool = True
    """With the ids that the tokenizer puts around a text."""
    bins: int = 256
    """Into how many equal parts [-1, 1] is cut for the words of a state."""
    classes: int = 0
    """Ids of the tokenizer, whose file is beside the weights; 0: bytes, which need no file."""
    hash: str = ""
    """Of that file (`Tokenizer.hash`)."""

    def __post_init__(self) -> None:
        if TASK_FIELD not in self.template:
            raise ValueError(f"prompt.template: expected {TASK_FIELD} in it, found {self.template!r}")
        for name in ("length", "bins"):
            if getattr(self, name) < 1:
                raise ValueError(f"prompt.{name}: expected at least 1, found {getattr(self, name)}")

    @property
    def tells_state(self) -> bool:
        """Whether a state is among its words."""
        return STATE_FIELD in self.template

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, without its file where it needs one."""
        return Tokenizer.absent(self.classes, self.hash) if self.classes else byte_tokenizer()

    def texts(self, tasks: Sequence[str], states: Tensor | None = None) -> list[str]:
        """The texts of B instructions and states (B, D), scaled to about [-1, 1]."""
        rows = [""] * len(tasks) if states is None else [" ".join(map(str, row)) for row in self.numbers(states)]
        return [self._text(task, row) for task, row in zip(tasks, rows, strict=True)]

    def numbers(self, states: Tensor) -> list[list[int]]:
        """The bins of states (B, D), 0 to `bins` - 1, or -1 below -1."""
        edges = torch.linspace(-1, 1, self.bins + 1, dtype=torch.float64)[:-1]
        found: list[list[int]] = (torch.bucketize(states.detach().cpu().double(), edges, right=True) - 1).tolist()
        return found

    def ids(self, tokenizer: Tokenizer, texts: Sequence[str]) -> Tokens:
        """ids (B, L) padded on the right, and their mask; raises ValueError for a text of more than `length` ids."""
        try:
            return tokenizer.batch(texts, length=self.length, cut=None, special=self.special)
        except ValueError as problem:
            if "expected at most" not in str(problem):
                raise
            raise ValueError(
                f"{problem} (with its state and template; --recipe.encoder.prompt.length takes more)"
            ) from None

    def _text(self, task: str, state: str) -> str:
        task = task.removesuffix("\n")
        if self.clean:
            task = task.strip().replace("_", " ").replace("\n", " ")
        text = self.template.replace(STATE_FIELD, state).replace(TASK_FIELD, task.lower() if self.lower else task)
        return text
