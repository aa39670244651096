"""Multi-head attention: packed projections, grouped heads, one mask, cached keys and values.

Shapes: B batch, L queries, S keys, D width, P keys of a memory, E width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.contracts import KeyValue
from nextmove.nn.dropout import Dropout
from nextmove.nn.mask import Mask, sdpa_mask
from nextmove.nn.norm import LayerNorm, RmsNorm
from nextmove.nn.product import Linear, linear

PROJECTIONS = ("q_proj", "k_proj", "v_proj")
"""Names of the matrices of queries, keys and values, packed or not."""
WRITTEN = 512
"""Queries and keys of which scores are written out at most where that is faster."""


@dataclass(frozen=True)
class Heads:
    """How attention is cut into heads."""

    n_heads: int
    n_kv_heads: int = 0
    """Heads of keys and values, each for n_heads / n_kv_heads heads of queries (Ainslie et al. 2023); 0 = n_heads."""
    head_dim: int = 0
    """Width of a head; 0 = the width of the model / n_heads."""
    bias: bool = True
    """Of queries, keys and values."""
    out_bias: bool = True
    scale: float = 0.0
    """What scores are multiplied by; 0 = 1 / sqrt(width of a head)."""
    norm: LayerNorm | RmsNorm | None = None
    """Norm of each head's queries and keys before they are rotated (Dehghani et al. 2023, section 2.1)."""
    norm_whole: bool = False
    """Whether the norm is one of all heads' queries, or keys, together (MPT-1B)."""
    cap: float = 0.0
    """Scores s become cap tanh(s / cap) (Gemma 2; Riviere et al. 2024, section 2); 0 = as they are."""
    window: int = 0
    """Keys a query reads at most in each direction, its own place included (Beltagy et al. 2020, section 3.1); under a
    causal mask these are the last `window` keys. 0 = all."""

    def resolved(self, width: int) -> Heads:
        """The same with the zeros filled in; raises ValueError where the numbers do not divide."""
        if self.n_heads < 1 or (not self.head_dim and width % self.n_heads):
            raise ValueError(f"heads: expected a divisor of width {width}, found {self.n_heads}")
        n_kv_heads = self.n_kv_heads or self.n_heads
        if n_kv_heads < 1 or self.n_heads % n_kv_heads:
            raise ValueError(f"heads.n_kv_heads: expected a divisor of {self.n_heads} heads, found {n_kv_heads}")
        for name in ("cap", "window"):
            if getattr(self, name) < 0:
                raise ValueError(f"heads.{name}: expected 0 or more, found {getattr(self, name)}")
        own = self.head_dim or width // self.n_heads
        return replace(self, n_kv_heads=n_kv_heads, head_dim=own, scale=self.scale or own**-0.5)


def as_heads(heads: int | Heads) -> Heads:
    """Plain heads where only their number is given."""
    return Heads(heads) if isinstance(heads, int) else heads


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1).

    Parameters have the names and, with plain heads, the shapes of nn.MultiheadAttention's; queries, keys and values are
    packed in this order, unless keys and values are `source` wide (nn.MultiheadAttention's `kdim`). Raises ValueError
    if the heads do not divide `width`.
    """

    q_proj_weight: nn.Parameter | None
    k_proj_weight: nn.Parameter | None
    v_proj_weight: nn.Parameter | None

    def __init__(self, width: int, heads: int | Heads, dropout: float = 0.0, *, source: int = 0) -> None:
        super().__init__()
        self.heads = as_heads(heads).resolved(width)
        self.dropout, own = Dropout(dropout), self.heads.head_dim
        self.widths = [self.heads.n_heads * own, self.heads.n_kv_heads * own, self.heads.n_kv_heads * own]
        apart = source not in (0, width)
        self.in_proj_weight = None if apart else nn.Parameter(torch.empty(sum(self.widths), width))
        for name, out, wide in zip("qkv", self.widths, (width, source, source), strict=True):
            weight = nn.Parameter(torch.empty(out, wide)) if apart else None
            self.register_parameter(f"{name}_proj_weight", weight)
        self.in_proj_bias = nn.Parameter(torch.zeros(sum(self.widths))) if self.heads.bias else None
        self.out_proj = Linear(self.widths[0], width, bias=self.heads.out_bias)
        self.adapters: nn.ModuleDict | None = None
        """By `PROJECTIONS`, what adds to queries, keys and values (`nn.lora`)."""
        norm = self.heads.norm
        normed = self.widths[:2] if self.heads.norm_whole else [own, own]
        self.query_norm, self.key_norm = (None if norm is None else norm.build(wide) for wide in normed)
        for weight in self.projections():
            nn.init.xavier_uniform_(weight)
        if self.heads.out_bias:
            nn.init.zeros_(self.out_proj.bias)

    def projections(self) -> list[nn.Parameter]:
        """The matrices of queries, keys and values: one where they are packed, else three."""
        found = (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        return [weight for weight in found if weight is not None]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Mask = None,
        past: KeyValue | None = None,
        rotate: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, KeyValue]:
        """y (B, L, D) and the keys and values (B, ., P + S, E) that were attended to, those of `past` first.

        query (B, L, D); key, value (B, S, D) or `source` wide; mask: over P + S keys (`nn.mask`).
        rotate: applied to queries and new keys (B, heads, ., E).
        """
        q, k, v = self.project(query, key, value)
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        known = KeyValue(k, v) if past is None else past.append(k, v)
        return self.attend(q, known.keys, known.values, mask), known

    def project(self, query: Tensor, key: Tensor, value: Tensor) -> Sequence[Tensor]:
        """Queries, keys and values (B, heads, ., E), normed but not rotated, in as few products as the inputs allow."""
        weight, bias, count, shared = self.in_proj_weight, self.in_proj_bias, self.heads.n_heads, self.heads.n_kv_heads
        if weight is not None and query is key and key is value:
            packed = self._in_heads(linear(query, weight, bias))
            parts = list(packed.split_with_sizes((count, shared, shared), 1))
        elif weight is not None and query is key:
            rows, rest = weight.split_with_sizes((count * self.heads.head_dim + self.widths[1], self.widths[2]))
            first, last = (None, None) if bias is None else bias.split_with_sizes((len(rows), len(rest)))
            packed = self._in_heads(linear(query, rows, first))
            parts = [*packed.split_with_sizes((count, shared), 1), self._in_heads(linear(value, rest, last))]
        else:
            weights = self.projections() if weight is None else weight.split_with_sizes(self.widths)
            biases = (None, None, None) if bias is None else bias.split_with_sizes(self.widths)
            inputs = (query, key, value)
            parts = [self._in_heads(linear(x, w, b)) for x, w, b in zip(inputs, weights, biases, strict=True)]
        if self.adapters is not None:
            parts = self._adapted(parts, (query, key, value))
        if self.query_norm is None or self.key_norm is None:
            return parts
        if not self.heads.norm_whole:
            return self.query_norm(parts[0]), self.key_norm(parts[1]), parts[2]
        q, k = (part.transpose(1, 2).flatten(2) for part in parts[:2])
        return self._in_heads(self.query_norm(q)), self._in_heads(self.key_norm(k)), parts[2]

    def _adapted(self, parts: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
        assert self.adapters is not None
        named = dict(self.adapters.items())
        zipped = zip(PROJECTIONS, parts, inputs, strict=True)
        return [part + self._in_heads(named[name](x)) if name in named else part for name, part, x in zipped]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask = None) -> Tensor:
        """y (B, L, D) of queries, keys and values (B, heads, ., E)."""
        attn_mask, causal = sdpa_mask(mask, q.shape[2], k.shape[2], self.heads.window, q.device)
        return self.out_proj(self._product(q, k, v, attn_mask, causal).transpose(1, 2).flatten(2))

    def weights(self, q: Tensor, k: Tensor, mask: Mask = None) -> Tensor:
        """What `attend` weighs values by, (B, heads, L, S)."""
        attn_mask, causal = sdpa_mask(mask, q.shape[2], k.shape[2], self.heads.window, q.device)
        return self._weights(q, k, attn_mask, causal)

    def _product(self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None, causal: bool) -> Tensor:
        """(B, heads, L, E)."""
        count, shared, scale = self.heads.n_heads, self.heads.n_kv_heads, self.heads.scale
        if self.heads.cap or (self.training and self.dropout.p) or _faster_written_out(q, k):
            return self._written_out(q, k, v, attn_mask, causal)
        if shared == count or torch.compiler.is_compiling():
            # Other runtimes know no shared keys.
            k, v = self._repeated(k), self._repeated(v)
            return F.scaled_dot_product_attention(q, k, v, attn_mask, is_causal=causal, scale=scale)
        if q.shape[2] > 1:
            return F.scaled_dot_product_attention(q, k, v, attn_mask, is_causal=causal, scale=scale, enable_gqa=True)
        # Queries of one position that share their keys are like queries of several positions.
        grouped = q.view(len(q), shared, count // shared, -1)
        return F.scaled_dot_product_attention(grouped, k, v, attn_mask, scale=scale).view_as(q)

    def _written_out(self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None, causal: bool) -> Tensor:
        """The same with what no kernel has: caps on scores, and weights dropped between the two products."""
        return self._of_each(self.dropout(self._weights(q, k, attn_mask, causal)), v)

    def _repeated(self, x: Tensor) -> Tensor:
        """Keys or values, one for each head of queries."""
        each = self.heads.n_heads // self.heads.n_kv_heads
        return x if each == 1 else x[:, :, None].expand(-1, -1, each, -1, -1).flatten(1, 2)

    def _of_each(self, x: Tensor, y: Tensor) -> Tensor:
        """x (B, heads, L, .) times each head's keys or values y (B, shared heads, ., .), which are not copied."""
        if x.shape[1] == y.shape[1]:
            return x @ y
        grouped = x.reshape(len(x), y.shape[1], -1, x.shape[3])
        return (grouped @ y).view(*x.shape[:3], -1)

    def _weights(self, q: Tensor, k: Tensor, attn_mask: Tensor | None, causal: bool) -> Tensor:
        """The softmax of the scores."""
        scores = self._of_each(q * self.heads.scale, k.mT)
        if self.heads.cap:
            scores = self.heads.cap * (scores / self.heads.cap).tanh()
        if causal:
            attn_mask = torch.ones(scores.shape[2:], dtype=torch.bool, device=q.device).tril()
        if attn_mask is not None:
            written = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, -torch.inf) if written else scores + attn_mask
        return scores.softmax(3)

    def _in_heads(self, x: Tensor) -> Tensor:
        """(B, L, heads E) -> (B, heads, L, E)."""
        batch, length, _ = x.shape
        return x.view(batch, length, -1, self.heads.head_dim).transpose(1, 2)


def _faster_written_out(q: Tensor, k: Tensor) -> bool:
    """Whether both products and the softmax are faster one by one: in bf16 with gradients on a CPU, where torch's one
    kernel computes them by way of float32, up to the length from which it saves too much memory."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or q.device.type != "cpu":
        return False
    narrow = torch.is_autocast_enabled("cpu") or q.dtype == torch.bfloat16
    return narrow and q.shape[2] <= WRITTEN and k.shape[2] <= WRITTEN
