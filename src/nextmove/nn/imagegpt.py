"""The transformer of ImageGPT: GPT-2 without centring and without biases (Chen et al. 2020).

Shapes: L ids, K classes, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from nextmove.contracts import ContextSpec
from nextmove.nn.attention import Attention, Heads
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.gpt import Gpt, GptNet
from nextmove.nn.norm import RmsNorm


@dataclass(frozen=True)
class ImageTransformer:
    """The published block: norms by size alone, units x sigmoid(1.702 x), a head of its own, no biases anywhere.

    The paper writes layer norm, its code divides by the root mean square and multiplies by a gain.
    """

    width: int = 128
    layers: int = 4
    heads: int = 4
    dropout: float = 0.0
    """0 as published."""

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec) -> GptNet:
        """A causal network of ids; the start symbol's embedding is the published `sos`."""
        block = Gpt(
            width=self.width,
            layers=self.layers,
            heads=Heads(self.heads, bias=False, out_bias=False),
            dropout=self.dropout,
            norm=RmsNorm(eps=1e-5),
            feedforward=DenseMlp(activation="quick_gelu", bias=False),
            head="plain",
        )
        net = block.build_tokens(length=length, classes=classes, context=context)
        initialise(net, self.layers)
        return net


@torch.no_grad()
def initialise(net: GptNet, layers: int) -> None:
    """The published start, normal around 0.

    Deviations: embeddings and feed-forward 0.02, positions 0.01, queries, keys and values 1 / sqrt(W), what leaves
    attention 1 / sqrt(W layers), head 0.
    """
    for part in net.stream.blocks.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02)
    for part in net.stream.blocks.modules():
        if isinstance(part, Attention):
            width = part.out_proj.out_features
            for weight in part.projections():
                nn.init.normal_(weight, std=width**-0.5)
            nn.init.normal_(part.out_proj.weight, std=(width * layers) ** -0.5)
    if net.position is not None:
        nn.init.normal_(net.position, std=0.01)
    if net.head is not None:
        nn.init.zeros_(net.head.weight)
