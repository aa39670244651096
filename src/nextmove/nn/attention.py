"""Multi-head attention with packed projections, masks and a key-value cache.

Letters: B batch, L queries, S keys, D width, P keys already in the cache.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KeyValue = tuple[Tensor, Tensor]
"""Keys and values of one layer, each (B, heads, S, D / heads)."""


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1).

    Parameters have the names and shapes of nn.MultiheadAttention's.
    Raises ValueError if `heads` does not divide `width`.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads: expected a divisor of width {width}, found {heads}")
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        keep: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: KeyValue | None = None,
        rotate: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, KeyValue]:
        """y (B, L, D) and the keys and values that were attended to; the cache given comes first among them.

        query (B, L, D); key, value (B, S, D). keep: (B, P + S) bool, mask: (L, P + S) bool, both True = attend.
        causal: query i sees the keys up to P + i, itself always.
        rotate: applied to queries and new keys (B, heads, ., D / heads).
        Without `causal`, a query that may attend to nothing gives an undefined row.
        """
        q, k, v = self._project(query, key, value)
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        if cache is not None:
            k, v = torch.cat([cache[0].to(k), k], 2), torch.cat([cache[1].to(v), v], 2)
        dropout = self.dropout if self.training else 0.0
        # A plain causal mask has its own, faster kernels.
        plain = causal and keep is None and mask is None and q.shape[2] == k.shape[2]
        seen = None if plain else _seen(q.shape[2], k.shape[2], keep, mask, causal, q.device)
        y = F.scaled_dot_product_attention(q, k, v, seen, dropout_p=dropout, is_causal=plain)
        return self.out_proj(y.transpose(1, 2).flatten(2)), (k, v)

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Queries, keys and values (B, heads, ., D / heads), in as few products as the inputs allow."""
        if query is key and key is value:
            parts = list(F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1))
        else:
            weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
            inputs = (query, key, value)
            parts = [F.linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True)]
        return [x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2) for x in parts]


def _seen(
    queries: int, keys: int, keep: Tensor | None, mask: Tensor | None, causal: bool, device: torch.device
) -> Tensor | None:
    """All masks as one, broadcasting to (B, heads, L, S); None if everything is seen."""
    seen = None if mask is None else mask[None, None]
    if keep is not None:
        seen = keep[:, None, None] if seen is None else seen & keep[:, None, None]
    if causal and (queries > 1 or seen is not None):
        full = torch.ones(queries, keys, dtype=torch.bool, device=device)
        past = full.tril(keys - queries)
        # Each sees itself whatever is masked, so that no row is empty (its softmax would be undefined).
        itself = past & full.triu(keys - queries)
        seen = past if seen is None else (seen & past) | itself
    return seen
