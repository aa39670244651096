"""Instructions by a frozen sentence encoder: one vector a text, the same at every step.

Shapes: B batch, T observation steps, L ids, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.codecs.tokenizer import Tokenizer
from nextmove.contracts import TASK, Feature, Numbers, Rng
from nextmove.encoders.part import chosen, present
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm
from nextmove.nn.text_encoder import TextEncoder

REMEMBERED = 1024
"""Texts whose vectors are kept: nothing of the encoder changes."""


@dataclass(frozen=True)
class Sentence:
    """A sentence encoder that is trained already; the sizes are those of all-MiniLM-L6-v2 (Wang et al. 2020).

    Its vectors are alike where texts are alike in topic: a colour or a negation changes little of them.
    """

    source: str = "minilm"
    """Whose weights a training begins with: `minilm`, from its package, or a folder of sentence-transformers."""
    network: TextEncoder = TextEncoder(
        384, 6, 12, feedforward=DenseMlp(1536, "gelu"), norm=LayerNorm(1e-12), place="after", types=2,
        embedding_norm=True, out_bias=True,
    )  # fmt: skip
    classes: int = 30522
    """Ids of its tokenizer."""
    positions: int = 512
    """Places of its table."""
    length: int = 256
    """Most ids that are read of an instruction; the rest is left out."""
    unit: bool = True
    """Whether its vectors have length 1."""

    def build(self, inputs: Mapping[str, Feature]) -> SentenceEncoder:
        """The part; raises ValueError where there is no instruction, naming the inputs present."""
        return SentenceEncoder(self, chosen(inputs, (TASK,), "text", "instruction"))


class SentenceEncoder(nn.Module):
    """Instructions, a list of B strings -> (B, steps, W); nothing of it is trained.

    It knows nothing until `begin` gives it weights and words, or a saved model has brought them.
    """

    def __init__(self, config: Sentence, features: Mapping[str, Feature]) -> None:
        super().__init__()
        self.config, self.inputs = config, dict(features)
        self.tokenizer = Tokenizer.absent(config.classes)
        self.network = config.network.build(classes=config.classes, length=config.positions).requires_grad_(False)
        self.width = self.network.width
        self._known: dict[str, Tensor] = {}

    def begin(self, network: nn.Module, tokenizer: Tokenizer) -> None:
        """Takes over weights and words; raises ValueError for a network of another size."""
        expected, found = self.network.state_dict(), network.state_dict()
        if expected.keys() != found.keys() or any(expected[n].shape != v.shape for n, v in found.items()):
            raise ValueError(f"{self.config.source}: expected a sentence encoder of the sizes of {self.config}")
        self.network.load_state_dict(found)
        self.tokenizer.adopt(tokenizer)
        self._known.clear()

    def train(self, mode: bool = True) -> SentenceEncoder:
        """Stays as it is: what is frozen drops nothing."""
        return super().train(False)

    def fit(self, numbers: Numbers, steps: int) -> None:
        """Nothing: texts have no statistics."""

    def forward(self, inputs: Mapping[str, Any], *, batch: int, steps: int, rng: Rng | None = None) -> Tensor:
        """(B, steps, W); every text is read once. Raises ValueError for an absent instruction or encoder."""
        like = self.network.embedding.weight
        if not present(inputs, self.inputs):
            return like.new_zeros(batch, steps, self.width)
        if not self.tokenizer.text:
            raise ValueError(
                f"instruction: expected the weights of the sentence encoder {self.config.source!r}, found none; "
                "nextmove train begins with them"
            )
        texts = list(dict.fromkeys(inputs[TASK]))
        if any(known.device != like.device or known.dtype != like.dtype for known in self._known.values()):
            self._known.clear()
        new = [text for text in texts if text not in self._known]
        if new:
            if len(self._known) + len(new) > REMEMBERED:
                self._known.clear()
                new = texts
            self._known |= dict(zip(new, self._read(new), strict=True))
        rows = torch.stack([self._known[text] for text in inputs[TASK]])
        return rows[:, None].expand(-1, steps, -1)

    def _read(self, texts: list[str]) -> Tensor:
        ids, mask = self.tokenizer.batch(texts, length=self.config.length)
        device = self.network.embedding.weight.device
        # Ordinary tensors, also where they are first asked for in acting: they are kept for training.
        with torch.inference_mode(False), torch.no_grad():
            vector: Tensor = self.network(ids.to(device), mask.to(device)).vector
            return F.normalize(vector, dim=-1) if self.config.unit else vector
