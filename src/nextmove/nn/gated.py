"""Gated blocks between the layers of a language model that attend to images (Alayrac et al. 2022, section 2.2).

Each adds tanh(gate) times what it found, and gates start at 0, so that the language model begins as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nextmove.nn.attention import Heads
from nextmove.nn.block import Block
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm


@dataclass(frozen=True)
class Gated:
    """Where the blocks stand and what they are made of."""

    source: int
    """Width of the tokens attended to."""
    every: int = 1
    """One stands in front of every so many layers."""
    first: int = 0
    """The first layer, counted from 0, with one in front."""
    heads: Heads = Heads(8, head_dim=64, bias=False, out_bias=False)
    feedforward: Any = DenseMlp(activation="gelu", bias=False)
    """`feedforward.DenseMlp` or `feedforward.GatedMlp`."""
    norm: Any = LayerNorm()
    """`norm.LayerNorm` or `norm.RmsNorm`."""
    channels: bool = False
    """A gate for each channel in place of one for all."""

    def __post_init__(self) -> None:
        for name, least in (("source", 1), ("every", 1), ("first", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"gated.{name}: expected at least {least}, found {getattr(self, name)}")

    def blocks(self, width: int, layers: int) -> dict[int, Block]:
        """Number of a layer -> the block in front of it, in a model of this width."""
        block = Block(
            width,
            self.heads,
            self.feedforward,
            self.norm,
            attention=False,
            cross=self.source,
            tanh_gate=True,
            gate_channels=self.channels,
        )
        return dict.fromkeys(range(self.first, layers, self.every), block)
