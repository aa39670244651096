"""Who sees whom and where everything stands, as the networks of prefix and suffix are told in their own calls.

Shapes: B batch, P tokens of the prefix, L of the suffix, N = P + L, M tokens of the reference, with its padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from nextmove.nn.mask import CAUSAL
from nextmove.nn.stream import Stream


@contextmanager
def watched(*streams: Any) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The calls of streams in order: each query's keys (B, L, P + L) bool, and its position (B, L)."""
    calls: list[tuple[Tensor, Tensor]] = []
    hooks = []

    def told(stream: Stream, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        x, memory, valid = arguments[0], named.get("memory"), named.get("valid")
        batch, length = x.shape[:2]
        keys = length + (0 if memory is None else memory.length)
        mask = stream._padded(named.get("mask"), memory, valid, length)
        places = stream._places(x, named.get("positions"), memory, valid)
        calls.append((_keys(mask, batch, length, keys), places.expand(batch, length)))

    try:
        hooks += [stream.register_forward_pre_hook(told, with_kwargs=True) for stream in {*streams}]
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _keys(mask: Any, batch: int, queries: int, keys: int) -> Tensor:
    """A mask of `nn.mask` as (B, L, S)."""
    if mask is None or mask is CAUSAL:
        whole = torch.ones(batch, queries, keys, dtype=torch.bool)
        return whole if mask is None else whole.tril(keys - queries)
    return (mask[:, 0] if mask.dim() == 4 else mask).expand(batch, queries, keys)


def joint(prefix: tuple[Tensor, Tensor], suffix: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Both calls as one pass: keys (B, N, N), of which a prefix sees none behind it, and positions (B, N)."""
    (first, before), (second, after) = prefix, suffix
    unseen = first.new_zeros(*first.shape[:2], second.shape[1])
    return torch.cat([torch.cat([first, unseen], 2), second], 1), torch.cat([before, after], 1)


def placed(seen: tuple[Tensor, Tensor], valid: Tensor, theirs: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Keys (B, M, M) and positions (B, M) among the reference's tokens, where those that count stand in one order.

    valid: (B, N), theirs: (B, M), False for padding, which sees and is seen by nothing; positions: what the reference
    has, whose padding is no position.
    """
    keys, places = seen
    found, where = torch.zeros(*theirs.shape, theirs.shape[1], dtype=torch.bool), positions.clone()
    for row in range(len(valid)):
        mine, own = valid[row].nonzero()[:, 0], theirs[row].nonzero()[:, 0]
        found[row, own[:, None], own] = keys[row][mine][:, mine]
        where[row, own] = places[row, mine].to(where)
    return found.float(), where.float()


def masks(pictures: Sequence[tuple[Tensor, Tensor | None]], cameras: int, batch: int) -> Tensor:
    """(B, cameras) bool: which rows have which picture, those that are absent behind those that are there."""
    there = [torch.ones(batch, dtype=torch.bool) if mask is None else mask.bool() for _, mask in pictures]
    return torch.stack(there + [torch.zeros(batch, dtype=torch.bool)] * (cameras - len(there)), 1)


def padding(shown: Tensor, tokens: int, around: tuple[int, int], behind: Sequence[Tensor], length: int = 0) -> Tensor:
    """(B, M) bool of a prefix: of each picture `tokens`, between so many ids that always count, then the rest."""
    parts = []
    for one in shown.unbind(1):
        marks = [torch.ones(len(one), count, dtype=torch.bool) for count in around]
        parts += [marks[0], one[:, None].expand(-1, tokens), marks[1]]
    whole = torch.cat([*parts, *behind], 1)
    return torch.nn.functional.pad(whole, (0, max(0, length - whole.shape[1])))
