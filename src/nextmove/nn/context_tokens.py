"""The context as tokens of a transformer.

Shapes: B batch, S tokens, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.flat import check_context
from nextmove.nn.mask import extend_valid
from nextmove.nn.product import Linear


class ContextTokens(nn.Module):
    """The vector projected to one token, then each token projected; all with learned positions."""

    def __init__(self, spec: ContextSpec, width: int, before: int = 0) -> None:
        """`before`: how many tokens the caller puts in front.

        Raises ValueError for a memory, and if the number of tokens is unknown.
        """
        super().__init__()
        check_context(spec)
        if spec.token and not spec.tokens:
            raise ValueError(f"context.tokens: expected the largest number of tokens, found {spec.tokens}")
        self.spec = spec
        self.vector = Linear(spec.vector, width) if spec.vector else None
        self.token = Linear(spec.token, width) if spec.token else None
        self.first = before + (spec.vector > 0)
        count = self.first + (spec.tokens if spec.token else 0)
        self.position = nn.Parameter(0.02 * torch.randn(count, width)) if count else None

    def count(self, ctx: Context) -> int:
        """The number S of tokens `forward` gives when nothing is put in front."""
        tokens = 0 if self.token is None or ctx.tokens is None else ctx.tokens.shape[1]
        return (self.vector is not None) + tokens

    def valid(self, ctx: Context) -> Tensor | None:
        """(B, S) bool, which tokens may be attended to; None if all."""
        return None if self.token is None or ctx.mask is None else extend_valid(ctx.mask, before=self.first)

    def forward(self, ctx: Context, *before: Tensor) -> Tensor:
        """(B, S, W), S > 0: `before` (B, W) each, the vector, the tokens; raises ValueError naming a missing part."""
        parts = [x[:, None] for x in before]
        if self.vector is not None:
            if ctx.vector is None:
                raise ValueError(f"context.vector: expected width {self.spec.vector}, found none")
            parts.append(self.vector(ctx.vector)[:, None])
        if self.token is not None:
            if ctx.tokens is None or ctx.tokens.shape[1] > self.spec.tokens:
                found = "none" if ctx.tokens is None else f"{ctx.tokens.shape[1]}"
                raise ValueError(f"context.tokens: expected at most {self.spec.tokens} tokens, found {found}")
            parts.append(self.token(ctx.tokens))
        tokens = torch.cat(parts, 1)
        return tokens if self.position is None else tokens + self.position[: tokens.shape[1]]
