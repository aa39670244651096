"""What the kernels read of a stream, as tables of numbers: its products, biases, norms and the facts of its layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from nextmove.config import ConfigError
from nextmove.contracts.layers import LayerParts, NormParts, StreamParts
from nextmove.runtime.packed.layout import Laid, laid
from nextmove.runtime.packed.step import ACTIVATIONS
from nextmove.runtime.packed.tile import ROWS

GATES = ("", "first", "second")


class Tables:
    """Of one stream; its weights live as long as it does. Raises ConfigError for parts that have no kernel."""

    def __init__(self, parts: StreamParts) -> None:
        layers, first = parts.layers, parts.layers[0].attention
        for layer in layers:
            _check(layer, parts.layers[0])
        self.shared, self.head, self.scale = first.shared, first.width, first.scale
        self.windows = sorted({layer.attention.window for layer in layers})
        self.weights: list[list[Laid]] = [
            [laid(p) for p in (x.attention.inward, x.attention.outward, x.feedforward.up, x.feedforward.down)]
            for x in layers
        ]
        self.products = np.array([[described(one) for one in row] for row in self.weights], np.int64)
        every = [one for row in self.weights for one in row]
        self.outputs = max(-(-one.rows // ROWS) * ROWS for one in every)
        self.inputs = max(one.columns for one in every)
        self.biases = np.zeros((len(layers), 4, self.outputs), np.float32)
        for i, row in enumerate(self.weights):
            for j, one in enumerate(row):
                if one.bias is not None:
                    self.biases[i, j, : one.rows] = one.bias
        norms = [(x.attention_branch.norm, x.feedforward_branch.norm) for x in layers]
        self.norms = np.array([[gains(norm, parts.width) for norm in pair] for pair in norms], np.float32)
        self.eps = np.array([[norm.eps for norm in pair] for pair in norms], np.float32)
        self.centred = int(norms[0][0].centred)
        self.facts = np.array([self._facts(layer) for layer in layers], np.int64)
        self.last = None if parts.norm is None else (gains(parts.norm, parts.width), parts.norm.eps, parts.norm.centred)

    def _facts(self, layer: LayerParts) -> list[int]:
        attention, feed = layer.attention, layer.feedforward
        kind, gated = ACTIVATIONS.index(feed.activation), GATES.index(feed.gate)
        return [attention.heads, attention.rotary, self.windows.index(attention.window), kind, gated]


def described(one: Laid) -> list[int]:
    """A product as a row of numbers."""
    return [one.bits, one.address, one.columns, one.rows, int(one.bias is not None)]


def gains(norm: NormParts, width: int) -> np.ndarray:
    """What a norm multiplies by and adds (2, W)."""
    gain, bias = (None if x is None else x.detach().float().numpy() for x in (norm.weight, norm.bias))
    given = (np.ones(width) if gain is None else gain, np.zeros(width) if bias is None else bias)
    return np.array(given, np.float32)


def _check(layer: LayerParts, first: LayerParts) -> None:
    branches, attention = (layer.attention_branch, layer.feedforward_branch), layer.attention
    same: list[tuple[Any, Any]] = [
        (getattr(attention, name), getattr(first.attention, name)) for name in ("shared", "width", "scale")
    ]
    same += [(branch.norm.centred, first.attention_branch.norm.centred) for branch in branches]
    missing = {
        "norms behind attention or feed-forward": any(b.post_norm is not None for b in branches),
        "scaled branches": any(b.scale is not None for b in branches),
        "norms of queries and keys": attention.query_norm is not None or attention.key_norm is not None,
        "capped scores": bool(attention.cap),
        f"the activation {layer.feedforward.activation}": layer.feedforward.activation not in ACTIVATIONS,
        "layers of several kinds": any(a != b for a, b in same),
    }
    found = [name for name, there in missing.items() if there]
    if found:
        raise ConfigError(f"runtime: packed has no kernels for {', '.join(found)}; take runtime openvino")
