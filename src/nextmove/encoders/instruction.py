"""Instructions to features: one vector a text, the same at every step.

Shapes: B batch, T observation steps, L ids, W width.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.codecs.byte_level import byte_tokenizer
from nextmove.contracts import TASK, Feature, Numbers, Rng
from nextmove.encoders.part import chosen, present
from nextmove.nn.text_encoder import TextEncoder


@dataclass(frozen=True)
class Instruction:
    """By what network the instruction is read, byte by byte."""

    network: TextEncoder = TextEncoder(width=64, layers=2, heads=4)
    length: int = 96
    """Most bytes that are read of an instruction; the rest is left out."""

    def build(self, inputs: Mapping[str, Feature]) -> InstructionEncoder:
        """The part; raises ValueError where there is no instruction, naming the inputs present."""
        return InstructionEncoder(self, chosen(inputs, (TASK,), "text", "instruction"))


class InstructionEncoder(nn.Module):
    """Instructions, a list of B strings -> (B, steps, W)."""

    def __init__(self, config: Instruction, features: Mapping[str, Feature]) -> None:
        super().__init__()
        self.inputs, self.length = dict(features), config.length
        self.tokenizer = byte_tokenizer()
        self.network = config.network.build(classes=self.tokenizer.classes, length=config.length)
        self.width = self.network.width

    def fit(self, numbers: Numbers, steps: int) -> None:
        """Nothing: texts have no statistics."""

    def vector(self, inputs: Mapping[str, Any], batch: int) -> Tensor:
        """(B, W); every text is read once, however many rows have it. Raises ValueError for an absent instruction."""
        if not present(inputs, self.inputs):
            return self.network.embedding.weight.new_zeros(batch, self.width)
        texts = list(dict.fromkeys(inputs[TASK]))
        for text in texts:
            size = len(self.tokenizer.encode(text, special=True))
            if size > self.length:
                warnings.warn(
                    f"{TASK}: only {self.length} of {size} ids of an instruction are read: {text!r}; a larger "
                    "encoder.parts.Instruction.length reads all",
                    stacklevel=2,
                )
        ids, mask = self.tokenizer.batch(texts, length=self.length)
        device = self.network.embedding.weight.device
        rows = torch.tensor([texts.index(text) for text in inputs[TASK]], device=device)
        found: Tensor = self.network(ids.to(device), mask.to(device)).vector
        return found[rows]

    def forward(self, inputs: Mapping[str, Any], *, batch: int, steps: int, rng: Rng | None = None) -> Tensor:
        """(B, steps, W)."""
        return self.vector(inputs, batch)[:, None].expand(-1, steps, -1)
