"""A stream of blocks and the map to logits with packed weights: the modules that stand in a network's place.

Shapes: B = 1 text, L tokens, P tokens remembered, W width, K classes, E width of a head.
"""

from __future__ import annotations

import threading
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from nextmove.config import ConfigError
from nextmove.contracts import Memory
from nextmove.contracts.layers import Bearings, Layered, Product, Spoken
from nextmove.runtime.packed import step
from nextmove.runtime.packed.layout import Laid, laid
from nextmove.runtime.packed.shelf import Shelved, shelf_for
from nextmove.runtime.packed.tables import Tables, described
from nextmove.runtime.packed.team import together
from nextmove.runtime.packed.tile import ROWS
from nextmove.runtime.standing import Standing, computable

CHUNK = 256
"""Tokens that are read at once: room for what is between is as large as that."""
_TURN = threading.RLock()


def exchange(network: nn.Module) -> None:
    """Exchanges the stream and the head of a network over ids; weights keep their names.

    Raises ConfigError for a network without a stream of transformer blocks, or with one of parts that have no kernel.
    """
    if not hasattr(network, "spoken") or not hasattr(getattr(network, "stream", None), "parts"):
        kind = type(network).__name__
        raise ConfigError(f"runtime: packed runs transformers token by token, found {kind}; take runtime torch")
    net = cast(Spoken, network)
    stream = PackedStream(net.stream)
    try:
        stream.tables()
    except ConfigError:
        raise
    except ValueError as problem:
        raise ConfigError(f"runtime: packed cannot compute this stream: {problem}; take runtime torch") from None
    net.head, net.stream = PackedHead(net.head, net.spoken(), net.stream.training), stream


class PackedStream(Standing):
    """A stream on as many threads as torch has; several texts, training and the like go to the stream itself."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.train(net.training)
        self._tables: Tables | None = None

    def forward(self, x: Tensor, **named: Any) -> tuple[Tensor, Memory | None]:
        """As of the stream."""
        given = {name: value for name, value in named.items() if value is not None}
        positions, mask, memory, valid = (given.pop(name, None) for name in ("positions", "mask", "memory", "valid"))
        kept = given.pop("remember", True)
        whole = memory is None or isinstance(memory, Shelved) or None not in memory.layers
        if given or not kept or not whole or len(x) != 1 or not x.numel() or not computable(self.net, [x]):
            return self.net(x, **named)
        bearings = cast(Layered, self.net).bearings(x, positions, mask, memory, valid)
        with _TURN:
            tables = self.tables()
            before = 0 if memory is None else memory.length
            masks = _masks(bearings, tables.windows, x.shape[1], before + x.shape[1])
            if masks is None:
                return self.net(x, **named)
            shelf = shelf_for(memory, x.shape[1], len(tables.facts), tables.shared, tables.head)
            angles, out = _angles(bearings), np.empty(x.shape[1:], np.float32)
            for first in range(0, x.shape[1], CHUNK):
                part = slice(first, first + CHUNK)
                hidden = masks[:, part, : before + min(first + CHUNK, x.shape[1])]
                _run(tables, x[0, part].numpy(), angles[:, :, part], hidden, shelf.data, before + first, out[part])
            shelf.length = before + x.shape[1]
        return torch.from_numpy(out)[None], Shelved(shelf, shelf.length, bearings.mask, bearings.count)

    def tables(self) -> Tables:
        """What is read of the stream, written down the first time and where weights are others."""
        if self.changed() or self._tables is None:
            self._tables = Tables(cast(Layered, self.net).parts())
        return self._tables

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_tables": None}


class PackedHead(Standing):
    """The map from a stream to logits; without weights of its own where it is the embedding."""

    def __init__(self, head: nn.Module | None, product: Product, training: bool) -> None:
        super().__init__(nn.Module() if head is None else head)
        self.train(training)
        self.product = product
        self._laid: Laid | None = None
        self._weights = product.kept

    def forward(self, h: Tensor) -> Tensor:
        """h (B, L, W) -> logits (B, L, K)."""
        if not h.numel() or h.dim() != 3 or not computable(self.net, [h]):
            return nn.functional.linear(h, self.product.weight, self.product.bias)
        with _TURN:
            if self.changed() or self._laid is None:
                self._laid = laid(self.product)
            one, rows = self._laid, h.flatten(0, 1).contiguous().numpy()
            read = np.zeros(_padded(len(rows)) * one.columns, np.float32)
            out = np.empty((_padded(len(rows)), one.data.shape[0] * ROWS), np.float32)
            bias, product = (
                np.zeros(1, np.float32) if one.bias is None else one.bias,
                np.array(described(one), np.int64),
            )
            together(torch.get_num_threads(), step.spoken, rows, product, bias, read, out, len(rows))
        return torch.from_numpy(out)[: len(rows), : one.rows].reshape(*h.shape[:2], -1)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_laid": None}


def _run(
    tables: Tables, x: np.ndarray, angles: np.ndarray, masks: np.ndarray, cache: np.ndarray, past: int, out: np.ndarray
) -> None:
    """Writes the stream's answer (L, W) to x (L, W); keys and values go behind the `past` ones of the cache."""
    length, team = len(x), torch.get_num_threads()
    rows = _padded(length)
    own = np.zeros((rows, x.shape[1]), np.float32)
    own[:length] = x
    h, read = np.empty((rows, tables.outputs), np.float32), np.zeros(rows * tables.inputs, np.float32)
    scores = np.empty((team, past + length), np.float32)
    together(
        team, step.layers, own, tables.products, tables.biases, tables.norms, tables.eps, tables.centred, tables.facts,
        np.ascontiguousarray(angles), np.ascontiguousarray(masks), cache, tables.scale, past, length, h, read, scores,
    )  # fmt: skip
    if tables.last is None:
        out[...] = own[:length]
        return
    norm, eps, centred = tables.last
    step.normalise(0, 1, own, norm, np.float32(eps), int(centred), out.reshape(-1), length, 1)


def _padded(length: int) -> int:
    """Rows of whole tiles."""
    return 1 if length == 1 else -(-length // step.TILE) * step.TILE


def _angles(bearings: Bearings) -> np.ndarray:
    """Cosines and sines (rotations, 2, L, E / 2)."""
    if not bearings.angles:
        return np.zeros((1, 2, 0, 0), np.float32)
    pairs = [[half[0] if half.dim() == 3 else half for half in pair] for pair in bearings.angles]
    return torch.stack([torch.stack(pair) for pair in pairs]).float().numpy()


def _masks(bearings: Bearings, windows: list[int], length: int, keys: int) -> np.ndarray | None:
    """What each query reads (windows, L, S), empty where that is everything; None for masks of other kinds."""
    found = [bearings.masks[window] for window in windows]
    if all(mask is None for mask in found):
        return np.zeros((len(windows), 0, 0), np.bool_)
    written = []
    for mask in found:
        if mask is None:
            mask = torch.ones(1, 1, dtype=torch.bool)
        if mask.dtype != torch.bool or mask.shape[:-2].numel() != 1:
            return None
        written.append(mask.reshape(mask.shape[-2:]).expand(length, keys))
    return torch.stack(written).numpy()
