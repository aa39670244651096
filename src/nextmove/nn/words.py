"""A head that says which id stands at a place, as BERT's for hidden words.

Shapes: B batch, L tokens, K classes, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nextmove.nn.feedforward import Activation, LinearAct
from nextmove.nn.norm import LayerNorm
from nextmove.nn.product import linear


class WordHead(nn.Module):
    """norm(activation(linear(h))) times the table of embeddings, plus a bias (Devlin et al. 2019, section 3.1)."""

    def __init__(self, width: int, classes: int, activation: Activation, norm: LayerNorm) -> None:
        super().__init__()
        self.dense = LinearAct(width, width, True, activation)
        self.norm = norm.build(width)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, h: Tensor, table: Tensor) -> Tensor:
        """Logits (B, L, K) of h (B, L, W) by the table (K, W) of embeddings."""
        return linear(self.norm(self.dense(h)), table, self.bias)
