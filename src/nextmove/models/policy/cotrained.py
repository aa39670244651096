"""A policy that goes on answering questions about images while it learns to act (RT-2's co-fine-tuning).

Shapes: B batch, N images of a row, L ids, K ids of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nextmove.contracts import Batch, Context, Rng
from nextmove.encoders import said
from nextmove.encoders.reading import ReadingEncoder
from nextmove.models.policy.policy import Policy

PAIRS = "pairs"
"""Key of a batch's questions and answers, a row for each of the robot's."""
ANSWERS = "answers"
"""The term of the loss that they make."""


class CotrainedPolicy(Policy):
    """A policy whose language model, in the same weights, answers in free words what it is asked in `question`."""

    question: str = "{}"
    """The words of a question, for which {} stands."""
    lead: tuple[int, ...] = ()
    """Ids between a question and its answer."""
    end: int = 0
    """The id behind an answer."""
    share: float = 1.0
    """What an answer's mean loss counts beside an action's."""

    def loss(self, batch: Batch, *, rng: Rng) -> dict[str, Tensor]:
        """The policy's terms, and where the batch has `pairs` (as `data.Pairs` gives them) that of their answers."""
        own = super().loss(batch, rng=rng)
        if PAIRS in batch:
            own[ANSWERS] = self.share * self.answer_loss(batch[PAIRS])
        return own

    def answer_loss(self, pairs: Batch) -> Tensor:
        """Mean over rows of the mean cross entropy of an answer's ids over the whole vocabulary, the end counted.

        pairs: `images` (B, N, h, w, 3) uint8, `images_valid` (B, N) bool, lists of B texts `prompt` and `text`.
        """
        encoder = self._reader
        ctx = self._asked(pairs["images"], pairs["images_valid"], pairs["prompt"])
        assert ctx.memory is not None
        rows = [[*encoder.tokenizer.encode(text).tolist(), self.end] for text in pairs["text"]]
        error, weight, _ = said.learnt(encoder.language, ctx.memory, self.lead, rows)
        return ((error * weight).sum(1) / weight.sum(1)).mean()

    @torch.inference_mode()
    def answer(self, images: Tensor, question: str, *, new: int = 32) -> str:
        """The likeliest answer about images (N, h, w, 3) uint8, in free words, at most `new` ids."""
        encoder = self._reader
        valid = torch.ones(1, len(images), dtype=torch.bool)
        memory = self._asked(images[None], valid, [question]).memory
        return "".join(encoder.tokenizer.stream(self._written(memory, new)))

    def _written(self, memory: Any, new: int) -> list[int]:
        # Words of actions are none of an answer's, nor are rows behind the tokenizer's.
        acts: list[int] = self.decoder.net.table.tolist()  # type: ignore[attr-defined]
        classes = self._reader.tokenizer.classes
        (row,), _ = said.likeliest(
            self._reader.language, memory, self.lead, end=self.end, most=new, classes=classes, silent=acts
        )
        return row

    def _asked(self, images: Tensor, valid: Tensor, questions: Sequence[str]) -> Context:
        """What questions about images are read as."""
        encoder, side = self._reader, self._reader.config.towers[0].image
        pictures = [
            (encoder.config.framed(images[:, i], side), None if bool(valid[:, i].all()) else valid[:, i])
            for i in range(images.shape[1])
        ]
        texts = [self.question.replace("{}", question) for question in questions]
        ids, mask = encoder.config.prompt.ids(encoder.tokenizer, texts)
        return encoder.prefix(pictures, ids, mask)

    @property
    def _reader(self) -> ReadingEncoder:
        encoder = self.encoder
        assert isinstance(encoder, ReadingEncoder)
        return encoder
