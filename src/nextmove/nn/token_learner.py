"""A few tokens of many places: each a mean of all places with weights of its own (Ryoo et al. 2021).

Shapes: N images, D width, S tokens, P places.
"""

from __future__ import annotations

from torch import Tensor, nn

from nextmove.nn.product import Linear

HIDDEN = 64


class TokenLearner(nn.Module):
    """Maps (N, D, height, width) -> tokens (N, S, D): softmax over places of an MLP of what a place holds, normed.

    Of version 1.1: the MLP reads each place alone, and what is averaged is not normed.
    """

    def __init__(self, width: int, tokens: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        if tokens < 1:
            raise ValueError(f"tokens: expected at least 1, found {tokens}")
        self.tokens = tokens
        self.norm = nn.LayerNorm(width, 1e-6)
        self.mlp = nn.Sequential(Linear(width, hidden), nn.GELU("tanh"), Linear(hidden, tokens))

    def forward(self, maps: Tensor) -> Tensor:
        """(N, S, D)."""
        places = maps.flatten(2).mT
        weights: Tensor = self.mlp(self.norm(places)).mT.softmax(-1)
        return weights @ places
