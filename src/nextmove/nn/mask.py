"""Who attends to whom: one mask for padding, order and windows.

Shapes: B batch, L queries, S keys; the queries are the last L of the S positions, or another sequence. Masks are bool,
True where a query may attend to a key, or floating: what is added to the scores, -inf where it may not (T5, ALiBi).
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal

import torch
from torch import Tensor


class Order(Enum):
    """Masks that need no tensor."""

    CAUSAL = "causal"


CAUSAL: Final = Order.CAUSAL
"""Query i attends to the keys up to its own place S - L + i; it has kernels of its own, faster than a tensor's."""

Mask = Tensor | Literal[Order.CAUSAL] | None
"""A tensor that broadcasts to (B, L, S), or to (B, 1, L, S) if it has four dimensions; `CAUSAL`; or None, all keys."""


def key_mask(valid: Tensor) -> Tensor:
    """(B, 1, 1, S) from valid (B, S): every query attends to every valid key. A row without one is undefined."""
    return valid[:, None, None]


def extend_valid(valid: Tensor, *, before: int = 0, after: int = 0) -> Tensor:
    """valid (B, S) with so many valid positions in front of it and behind it."""
    batch = valid.shape[0]
    return torch.cat([valid.new_ones(batch, before), valid, valid.new_ones(batch, after)], 1)


def block_mask(valid: Tensor, block: Tensor, queries: int = 0) -> Tensor:
    """(B, 1, L, S): position i attends to j where valid_j and block_j <= block_i.

    valid: (B, S) bool, False for padding; block: (S,) or (B, S) integers. Positions of one block see each other, those
    of a later block all earlier ones too: equal numbers make an encoder, rising ones a causal order, 0 and then 1 a
    prefix that does not see what follows it. queries: how many of the last positions ask; 0 = all. Every position
    also attends to itself, so that the row of a padded one is defined.
    """
    length = valid.shape[1]
    first = length - (queries or length)
    earlier = block[..., None, :] <= block[..., first:, None]
    own = torch.arange(length, device=valid.device)
    itself = own == own[first:, None]
    return ((valid[:, None] & earlier) | itself)[:, None]


def branch_mask(branch: Tensor) -> Tensor:
    """(B, 1, L, L) from the number of each position's branch (B, L): position i attends to j <= i of its own branch and
    of number 0, which all branches go on from. A row of it has as many keys as the branch is long up to there."""
    own, other = branch[:, :, None], branch[:, None]
    order = torch.ones(branch.shape[1], branch.shape[1], dtype=torch.bool, device=branch.device).tril()
    return (order & ((own == other) | (other == 0)))[:, None]


def biased_mask(bias: Tensor, mask: Mask) -> Tensor:
    """The mask with a bias (., heads, L, S) of the scores that it leaves."""
    if mask is None:
        return bias
    if not isinstance(mask, Tensor):
        queries, keys = bias.shape[-2:]
        mask = _order(queries, keys, bias.device).tril(keys - queries)
    mask = mask[:, None] if mask.dim() == 3 else mask
    return bias.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else bias + mask


def sdpa_mask(mask: Mask, queries: int, keys: int, window: int, device: torch.device) -> tuple[Tensor | None, bool]:
    """The mask as `scaled_dot_product_attention` takes it, broadcasting to (B, heads, L, S), and its `is_causal`.

    window: how many positions away a key may be at most, less one (0 = any).
    """
    if isinstance(mask, Tensor):
        mask = mask[:, None] if mask.dim() == 3 else mask
    elif mask is CAUSAL:
        if not window or window >= keys:
            if queries == keys:
                return None, True
            mask = None if queries == 1 else _order(queries, keys, device).tril(keys - queries)
            return mask, False
        mask = _order(queries, keys, device).tril(keys - queries)
    if window and window < keys:
        near = _order(queries, keys, device).triu(keys - queries - window + 1).tril(keys - queries + window - 1)
        if mask is not None:
            near = mask & near if mask.dtype == torch.bool else mask.masked_fill(~near, -torch.inf)
        mask = near
    return mask, False


def _order(queries: int, keys: int, device: torch.device) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool, device=device)
