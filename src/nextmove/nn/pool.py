"""One vector of many tokens.

Shapes: B batch, S tokens, W width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from nextmove.nn.attention import Attention
from nextmove.nn.block import Block


class AttentionPool(nn.Module):
    """A learned query attends to all tokens, and a feed-forward part follows (SigLIP's head; Zhai et al. 2023).

    The multi-head attention pooling of Lee et al. 2019 with one seed: y = attention(probe), then y + mlp(norm(y)).
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.randn(block.width))
        self.attention = Attention(block.width, block.heads)
        self.rest = replace(block, attention=False, film=0).build()

    def forward(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, W) of tokens (B, S, W), of which `valid` (B, S) marks those that count."""
        query = self.probe.expand(len(tokens), 1, -1)
        y, _ = self.attention(query, tokens, tokens, None if valid is None else valid[:, None, None])
        y, _ = self.rest(y)
        return y[:, 0]
