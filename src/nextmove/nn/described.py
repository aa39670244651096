"""A stream of blocks as tensors and plain values, for runtimes that compute it by their own kernels.

Shapes: B batch, L queries, S keys, W width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nextmove.contracts.layers import (
    AttentionParts,
    BranchParts,
    FeedForwardParts,
    LayerParts,
    NormParts,
    Product,
    StreamParts,
)
from nextmove.nn.attention import Attention
from nextmove.nn.block import Branch, TransformerBlock
from nextmove.nn.feedforward import FeedForward, GatedLinear
from nextmove.nn.mask import Mask, sdpa_mask
from nextmove.nn.norm import Centred, RMSNorm
from nextmove.nn.quantised import packed_parts


def norm_parts(norm: nn.Module) -> NormParts:
    """What a norm multiplies by and adds, an offset of the gain added in."""
    if isinstance(norm, RMSNorm):
        gain = None if norm.weight is None else norm.weight + norm.offset if norm.offset else norm.weight
        return NormParts(gain, None, norm.eps, False)
    if isinstance(norm, Centred):
        return NormParts(None, None, norm.eps, True)
    if type(norm) is nn.LayerNorm:
        return NormParts(norm.weight, norm.bias, norm.eps, True)
    raise ValueError(f"norm: expected a layer norm or one by the root mean square, found {type(norm).__name__}")


def product(linear: nn.Module) -> Product:
    """The weights and bias of a linear map."""
    if not isinstance(linear, nn.Linear):
        raise ValueError(f"product: expected a linear map, found {type(linear).__name__}")
    packed = packed_parts(linear, "weight")
    return Product(None if packed else linear.weight, linear.bias, packed)


def layer_parts(block: TransformerBlock, rotary: int) -> LayerParts:
    """One block; raises ValueError for one with cross-attention, a condition, gates or norms behind the sum."""
    attention, first, last = block.attention, block.attention_branch, block.feedforward_branch
    others = (block.cross, block.adaptive, block.film)
    if attention is None or first is None or any(part is not None for part in others):
        raise ValueError("block: expected self-attention and feed-forward only, found other parts")
    return LayerParts(_branch(first), _attention(attention, rotary), _branch(last), _feedforward(block.feedforward))


def stream_parts(width: int, blocks: list[TransformerBlock], turns: list[int], norm: nn.Module | None) -> StreamParts:
    """Blocks with the number of the rotation of each."""
    layers = tuple(layer_parts(block, turn) for block, turn in zip(blocks, turns, strict=True))
    return StreamParts(width, layers, None if norm is None else norm_parts(norm))


def masks(windows: set[int], mask: Mask, queries: int, keys: int, device: torch.device) -> dict[int, Tensor | None]:
    """By window, the mask written out; None where every query reads every key."""
    found: dict[int, Tensor | None] = {}
    for window in windows:
        written, causal = sdpa_mask(mask, queries, keys, window, device)
        if causal and queries > 1:
            written = torch.ones(queries, keys, dtype=torch.bool, device=device).tril()
        found[window] = written
    return found


def _branch(branch: Branch) -> BranchParts:
    if branch.after or branch.gate is not None:
        raise ValueError("block: expected norms before its parts and no gates, found others")
    post = branch.post_norm
    return BranchParts(norm_parts(branch.norm), None if post is None else norm_parts(post), branch.scale)


def _attention(attention: Attention, rotary: int) -> AttentionParts:
    heads, packed = attention.heads, packed_parts(attention, "in_proj_weight")
    weight = None if packed else attention.in_proj_weight
    if weight is None and not packed:
        raise ValueError("attention: expected packed queries, keys and values, found them apart")
    norms: list[Any] = [attention.query_norm, attention.key_norm]
    if heads.norm is not None and heads.norm_whole:
        raise ValueError("attention: expected norms of each head, found one of all heads together")
    return AttentionParts(
        Product(weight, attention.in_proj_bias, packed), product(attention.out_proj), heads.n_heads, heads.n_kv_heads,
        heads.head_dim, heads.scale, heads.cap, heads.window, rotary,
        *(None if norm is None else norm_parts(norm) for norm in norms),
    )  # fmt: skip


def _feedforward(part: nn.Module) -> FeedForwardParts:
    if not isinstance(part, FeedForward):
        raise ValueError(f"block: expected a feed-forward part with hidden units, found {type(part).__name__}")
    up = part.up
    gate = "" if not isinstance(up, GatedLinear) else "first" if up.first else "second"
    return FeedForwardParts(product(up), product(part.down), up.kind, gate)
