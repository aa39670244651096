"""Blocks in a row over one stream of tokens.

Shapes: B batch, L tokens, P tokens of a memory, W width, C width of a condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nextmove.contracts import KeyValue, Memory, _torch
from nextmove.contracts.layers import Bearings, StreamParts
from nextmove.nn.alibi import Alibi
from nextmove.nn.attention import as_heads
from nextmove.nn.block import AdaLN, Block, Source, modulated
from nextmove.nn.described import masks, stream_parts
from nextmove.nn.mask import Mask, biased_mask, block_mask, extend_valid, key_mask
from nextmove.nn.rope import Rotary, rotate


class Stream(nn.Module):
    """Transformer blocks of one width, then a norm where there is one.

    A condition that steers the blocks shifts and scales what leaves the last norm too (DiT's final layer).
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        *,
        norm: Any = None,
        rotary: Rotary | Sequence[Rotary] | None = None,
        alibi: Alibi | None = None,
        gated: Mapping[int, Block] | None = None,
        last: int = 2,
    ) -> None:
        """rotary: of all layers, or of each; alibi: of all layers; gated: by the number of a block, the one in front of
        it that attends to the source alone (Flamingo); last: rows of a condition's map for the last norm: 2, or 3 with
        a gate that nothing reads (pi0.5, as published)."""
        super().__init__()
        if not blocks:
            raise ValueError("layers: expected at least 1, found 0")
        first = blocks[0]
        self.width = first.width
        self.blocks = nn.ModuleList(block.build() for block in blocks)
        self.norm = None if norm is None else norm.build(first.width)
        adaptive = first.condition and norm is not None
        self.adaptive = AdaLN(first.condition, first.width, 1, last) if adaptive else None
        heads = as_heads(first.heads).resolved(first.width)
        self.rotary, self.alibi, self.heads, self.head = rotary, alibi, heads.n_heads, heads.head_dim
        self.recompute = False
        """As of `contracts.blocks.Blocks`."""
        if not isinstance(rotary, Rotary | None) and len(rotary) != len(blocks):
            raise ValueError(f"rotary: expected one for each of {len(blocks)} layers, found {len(rotary)}")
        self.crosses = [bool(block.cross) and not block.cross_optional for block in blocks]
        self.gated = nn.ModuleDict({str(i): block.build() for i, block in gated.items()}) if gated else None

    def forward(
        self,
        x: Tensor,
        *,
        positions: Tensor | None = None,
        mask: Mask = None,
        memory: Memory | None = None,
        valid: Tensor | None = None,
        position: Tensor | None = None,
        source: Source | None = None,
        condition: Tensor | None = None,
        remember: bool = True,
        depth: int | None = None,
        answer: bool = True,
    ) -> tuple[Tensor, Memory | None]:
        """h (B, L, W) of x and, to `remember`, the memory with the keys and values of x behind it.

        positions: (L,) or, row by row, (B, L) integers for rotary positions and ALiBi; by default each row's go on from
        the memory's count. mask: over the P + L tokens (`nn.mask`); valid: (B, L) bool, False for padding, which with
        the memory's own is masked where `mask` is no tensor. position: added to queries and keys; source: what is
        cross-attended to, by default the memory's own layer; condition: (B, C) or (B, L, C), activated. As of
        `TransformerBlock`. depth: only so many blocks, and no norm behind them. answer: off, what the last block makes
        of x is not computed, where the memory alone is wanted; h is what enters it.
        """
        mask = self._mask(x, positions, mask, memory, valid)
        rotations, layers = self._rotations(x, positions, memory, valid), []
        own = self._sources(x, memory) if source is None and memory is not None and any(self.crosses) else None
        gated, again = self.gated, self.recompute and torch.is_grad_enabled()
        for i, block in enumerate(self.blocks if depth is None else self.blocks[:depth]):
            if gated is not None and str(i) in gated:
                x, _ = gated[str(i)](x, source=source)
            past = None if memory is None else memory.layers[i]
            source = source if own is None else own[i]
            if not answer and i == len(self.blocks) - 1:
                last: Any = block
                layers.append(last.remembered(x, past, rotations[i], position, condition))
                return x, _remembered(x, layers, memory, valid)
            # By position: keywords would be packed and unpacked at every block.
            arguments = (x, mask, past, rotations[i], position, source, condition)
            x, past = _recomputed(block, *arguments) if again else block(*arguments)
            if remember:
                layers.append(past)
        if self.norm is not None and depth is None:
            x = self.norm(x)
        if self.adaptive is not None:
            x = modulated(x, self.adaptive(condition)[0])
        return x, _remembered(x, layers, memory, valid) if remember else memory

    def parts(self) -> StreamParts:
        """What it is made of; raises ValueError where a part has no place there (`contracts.layers`)."""
        if self.adaptive is not None or self.gated is not None:
            raise ValueError("stream: expected no condition and no gated blocks, found some")
        turns = [-1 if own is None else self._turning().index(own) for own in self._each()]
        return stream_parts(self.width, list(self.blocks), turns, self.norm)  # type: ignore[arg-type]

    def bearings(
        self, x: Tensor, positions: Tensor | None, mask: Mask, memory: Memory | None, valid: Tensor | None
    ) -> Bearings:
        """What the blocks read besides x (B, L, W), arguments as of `forward`."""
        before, length = 0 if memory is None else memory.length, x.shape[1]
        mask = self._mask(x, positions, mask, memory, valid)
        windows: set[int] = {block.attention.heads.window for block in self.blocks}  # type: ignore[union-attr, misc]
        positions = self._places(x, positions, memory, valid) if self._turning() else x.new_zeros(0)
        angles = [rotary.angles(positions, self.head) for rotary in self._turning()]
        after = _remembered(x, [], memory, valid)
        return Bearings(angles, masks(windows, mask, length, before + length, x.device), after.mask, after.count)

    def _each(self) -> list[Rotary | None]:
        """The rotation of each layer."""
        rotary = self.rotary
        return [rotary] * len(self.crosses) if rotary is None or isinstance(rotary, Rotary) else list(rotary)

    def _turning(self) -> list[Rotary]:
        """The rotations that there are."""
        return list(dict.fromkeys(rotary for rotary in self._each() if rotary is not None))

    def _mask(
        self, x: Tensor, positions: Tensor | None, mask: Mask, memory: Memory | None, valid: Tensor | None
    ) -> Mask:
        """The mask with padding masked, unless it is a tensor and says all, and with what ALiBi adds to the scores."""
        mask = self._padded(mask, memory, valid, x.shape[1])
        if self.alibi is None:
            return mask
        own, before = self._places(x, positions, memory, valid), None
        if memory is not None:
            counted = memory.valid.cumsum(1)
            # The first new token, where it is no padding, is one place behind the last that is remembered.
            first = own[..., :1] if valid is None else own[..., :1] + ~valid[:, :1]
            before = counted - counted[:, -1:] + first - 1
            own = own.expand(len(x), -1)
        keys = own if before is None else torch.cat([before, own], 1)
        return biased_mask(self.alibi.bias(own, keys, self.heads).to(x.dtype), mask)

    def _padded(self, mask: Mask, memory: Memory | None, valid: Tensor | None, queries: int) -> Mask:
        if isinstance(mask, Tensor) or (valid is None and (memory is None or memory.mask is None)):
            return mask
        if memory is not None:
            valid = extend_valid(memory.valid, after=queries) if valid is None else torch.cat([memory.valid, valid], 1)
        assert valid is not None
        if mask is None:
            return key_mask(valid)
        return block_mask(valid, torch.arange(valid.shape[1], device=valid.device), queries)

    def _sources(self, x: Tensor, memory: Memory) -> list[Source | None]:
        """The memory's keys and values as sources of the layers that attend to another sequence (SmolVLA).

        Keys have their positions already; queries count theirs from 0 (Shukor et al. 2025, as published in LeRobot).
        """
        mask = None if memory.mask is None else key_mask(memory.mask)
        rotations = self._rotations(x, torch.arange(x.shape[1], device=x.device), None, None)

        def flat(part: Tensor) -> Tensor:
            return part.transpose(1, 2).flatten(2)

        layers = zip(self.crosses, memory.layers, rotations, strict=True)
        return [
            Source(flat(kv.keys), mask, values=flat(kv.values), rotate=turn) if cross and kv is not None else None
            for cross, kv, turn in layers
        ]

    def _rotations(
        self, x: Tensor, positions: Tensor | None, memory: Memory | None, valid: Tensor | None
    ) -> Sequence[Any]:
        """The rotation of this call's queries and keys, layer by layer."""
        if self.rotary is None:
            return [None] * len(self.crosses)
        positions = self._places(x, positions, memory, valid)

        def turn(rotary: Rotary) -> Any:
            cosines, sines = rotary.angles(positions, self.head)
            return partial(rotate, cosines=cosines, sines=sines)

        if isinstance(self.rotary, Rotary):
            return [turn(self.rotary)] * len(self.crosses)
        turns = {rotary: turn(rotary) for rotary in set(self.rotary)}
        return [turns[rotary] for rotary in self.rotary]

    @staticmethod
    def _places(x: Tensor, positions: Tensor | None, memory: Memory | None, valid: Tensor | None) -> Tensor:
        """Positions (L,) or (B, L): those given, or those that go on from the memory."""
        if positions is not None:
            return positions
        positions = torch.arange(x.shape[1], device=x.device) if valid is None else valid.cumsum(1) - 1
        return positions if memory is None else memory.count[:, None] + positions


def _recomputed(block: nn.Module, *arguments: Any) -> tuple[Tensor, KeyValue | None]:
    """What a block answers; its gradient computes it a second time, dropout included."""
    if _torch.transformed(arguments[0]):
        raise ValueError(
            "gradient_checkpointing: expected a loss without derivatives of its own, found one that differentiates its "
            "network (as MeanFlow's does); leave it out"
        )
    return checkpoint(block, *arguments, use_reentrant=False)


def _remembered(x: Tensor, layers: list[KeyValue | None], before: Memory | None, valid: Tensor | None) -> Memory:
    """The memory of all tokens up to those of x (B, L, W)."""
    batch, length = x.shape[:2]
    if before is None:
        count = x.new_full((batch,), length, dtype=torch.long) if valid is None else valid.sum(1)
        return Memory(tuple(layers), valid, count)
    mask = None
    if valid is not None:
        mask = torch.cat([before.valid, valid], 1)
    elif before.mask is not None:
        mask = extend_valid(before.mask, after=length)
    return Memory(tuple(layers), mask, before.count + (length if valid is None else valid.sum(1)))
