"""A policy that goes on answering questions about images while it learns to act (RT-2's co-fine-tuning).

Shapes: B batch, N images of a row, L ids, K ids of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nextmove.contracts import Batch, Context, Rng
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
        rows = [[*encoder.tokenizer.encode(text).tolist(), self.end] for text in pairs["text"]]
        count, longest = len(self.lead), max(map(len, rows))
        device = encoder.language.embedding.weight.device
        ids = torch.full((len(rows), count + longest), self.end, device=device)
        heard = torch.zeros_like(ids, dtype=torch.bool)
        ids[:, :count] = torch.tensor(self.lead, device=device)
        for i, row in enumerate(rows):
            ids[i, count : count + len(row)] = torch.tensor(row, device=device)
            heard[i, : count + len(row)] = True
        x = encoder.language.embed(ids[:, :-1])
        h, _ = encoder.language.read_embedded(x, Context.empty(len(rows)), ctx.memory, valid=heard[:, :-1])
        logits = encoder.language.logits(h[:, count - 1 :])
        error = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, count:].flatten(), reduction="none")
        weight = heard[:, count:].to(error)
        return ((error.view_as(weight) * weight).sum(1) / weight.sum(1)).mean()

    @torch.inference_mode()
    def answer(self, images: Tensor, question: str, *, new: int = 32) -> str:
        """The likeliest answer about images (N, h, w, 3) uint8, in free words, at most `new` ids."""
        encoder = self._reader
        valid = torch.ones(1, len(images), dtype=torch.bool)
        memory = self._asked(images[None], valid, [question]).memory
        return "".join(encoder.tokenizer.stream(self._written(memory, new)))

    def _written(self, memory: Any, new: int) -> Iterator[int]:
        language, net = self._reader.language, self.decoder.net  # type: ignore[attr-defined]
        ids = torch.tensor([list(self.lead)], device=language.embedding.weight.device)
        for _ in range(new):
            h, memory = language.read_embedded(language.embed(ids), Context.empty(1), memory)
            # Words of actions are none of an answer's, nor are rows behind the tokenizer's.
            logits = language.logits(h[:, -1:])[..., : self._reader.tokenizer.classes]
            acts = net.table[net.table < logits.shape[-1]].to(logits.device)
            ids = logits.index_fill(-1, acts, -torch.inf).argmax(-1)
            if int(ids) == self.end:
                return
            yield int(ids)

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
