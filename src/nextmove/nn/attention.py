"""Multi-head attention with packed projections, masks and a key-value cache.

Letters: B batch, L queries, S keys, D width, P keys already in the cache, E width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.nn.cache import grow
from nextmove.nn.dropout import Dropout
from nextmove.nn.norm import RmsNorm

KeyValue = tuple[Tensor, Tensor]
"""Keys and values of one layer, each (B, heads of keys and values, S, E)."""


@dataclass(frozen=True)
class Heads:
    """How attention is cut into heads."""

    count: int
    shared: int = 0
    """Heads of keys and values, each for count / shared heads of queries (Ainslie et al. 2023); 0 = count."""
    width: int = 0
    """Width of a head; 0 = the width of the model / count."""
    bias: bool = True
    """Of queries, keys and values."""
    out_bias: bool = True
    scale: float = 0.0
    """What scores are multiplied by; 0 = 1 / sqrt(width of a head)."""
    norm: RmsNorm | None = None
    """Norm of each head's queries and keys before they are rotated (Dehghani et al. 2023, section 2.1)."""

    def settled(self, width: int) -> Heads:
        """The same with the zeros filled in; raises ValueError where the numbers do not divide."""
        if not self.width and width % self.count:
            raise ValueError(f"heads: expected a divisor of width {width}, found {self.count}")
        shared = self.shared or self.count
        if self.count % shared:
            raise ValueError(f"heads.shared: expected a divisor of {self.count} heads, found {shared}")
        own = self.width or width // self.count
        return Heads(self.count, shared, own, self.bias, self.out_bias, self.scale or own**-0.5, self.norm)


def as_heads(heads: int | Heads) -> Heads:
    """Plain heads where only their number is given."""
    return Heads(heads) if isinstance(heads, int) else heads


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1).

    Parameters have the names and, with plain heads, the shapes of nn.MultiheadAttention's; queries, keys and values are
    packed in this order. Raises ValueError if the heads do not divide `width`.
    """

    def __init__(self, width: int, heads: int | Heads, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = as_heads(heads).settled(width)
        self.dropout, own = Dropout(dropout), self.heads.width
        self.widths = [self.heads.count * own, self.heads.shared * own, self.heads.shared * own]
        self.in_proj_weight = nn.Parameter(torch.empty(sum(self.widths), width))
        self.in_proj_bias = nn.Parameter(torch.zeros(sum(self.widths))) if self.heads.bias else None
        self.out_proj = nn.Linear(self.widths[0], width, bias=self.heads.out_bias)
        norm = self.heads.norm
        self.query_norm = None if norm is None else norm.build(own)
        self.key_norm = None if norm is None else norm.build(own)
        nn.init.xavier_uniform_(self.in_proj_weight)
        if self.heads.out_bias:
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
        rotate: applied to queries and new keys (B, heads, ., E).
        Without `causal`, a query that may attend to nothing gives an undefined row.
        """
        q, k, v = self._project(query, key, value)
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        if cache is not None:
            k, v = grow(cache[0].to(k), k), grow(cache[1].to(v), v)
        # A plain causal mask has its own, faster kernels.
        plain = causal and keep is None and mask is None and q.shape[2] == k.shape[2]
        seen = None if plain else _seen(q.shape[2], k.shape[2], keep, mask, causal, q.device)
        y = self._attend(q, k, v, seen, plain)
        return self.out_proj(y.transpose(1, 2).flatten(2)), (k, v)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, causal: bool) -> Tensor:
        """(B, heads, L, E)."""
        count, shared, scale = self.heads.count, self.heads.shared, self.heads.scale
        if self.training and self.dropout.p:
            return self._attend_with_dropout(q, k, v, seen, causal)
        if shared == count:
            return F.scaled_dot_product_attention(q, k, v, seen, is_causal=causal, scale=scale)
        if q.shape[2] > 1:
            return F.scaled_dot_product_attention(q, k, v, seen, is_causal=causal, scale=scale, enable_gqa=True)
        # Queries of one position that share their keys are like queries of several positions.
        grouped = q.view(len(q), shared, count // shared, -1)
        return F.scaled_dot_product_attention(grouped, k, v, seen, scale=scale).view_as(q)

    def _attend_with_dropout(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, causal: bool) -> Tensor:
        """The same written out, for weights are dropped between the two products."""
        each = self.heads.count // self.heads.shared
        k, v = (k, v) if each == 1 else (k.repeat_interleave(each, 1), v.repeat_interleave(each, 1))
        scores = (q * self.heads.scale) @ k.mT
        if causal:
            seen = torch.ones(scores.shape[2:], dtype=torch.bool, device=q.device).tril()
        if seen is not None:
            scores = scores.masked_fill(~seen, -torch.inf)
        return self.dropout(scores.softmax(3)) @ v

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> Sequence[Tensor]:
        """Queries, keys and values (B, heads, ., E), in as few products as the inputs allow."""
        weight, bias, count, shared = self.in_proj_weight, self.in_proj_bias, self.heads.count, self.heads.shared
        if query is key and key is value:
            packed = self._in_heads(F.linear(query, weight, bias))
            return packed.split_with_sizes((count, shared, shared), 1)
        weights = weight.split_with_sizes(self.widths)
        biases = (None, None, None) if bias is None else bias.split_with_sizes(self.widths)
        inputs = (query, key, value)
        return [self._in_heads(F.linear(x, w, b)) for x, w, b in zip(inputs, weights, biases, strict=True)]

    def _in_heads(self, x: Tensor) -> Tensor:
        """(B, L, heads E) -> (B, heads, L, E)."""
        return x.view(*x.shape[:2], -1, self.heads.width).transpose(1, 2)


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
