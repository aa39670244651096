"""A stream of transformer blocks as a graph of OpenVINO that remembers the keys and values of what it has read.

The forms are those that its CPU kernels are matched by: rotations, norms, attention with a memory and activations each
become one kernel, which makes the difference at one token a call. `beams` says which rows of the memory go on.

Shapes: B rows, L tokens, P tokens remembered, W width, E width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from nextmove.contracts.layers import (
    AttentionParts,
    BranchParts,
    FeedForwardParts,
    LayerParts,
    NormParts,
    Product,
    StreamParts,
)
from nextmove.runtime.int8 import LEAST, rounding
from nextmove.runtime.program import Precision, openvino

Node = Any


class Graph:
    """Nodes of one stream or one product, whose weights are kept at a precision."""

    def __init__(self, precision: Precision) -> None:
        self.ov, self.precision = openvino(), precision
        self.op = self.ov.opset13
        self.sinks: list[Node] = []

    def stream(self, parts: StreamParts, turns: list[int], windows: list[int]) -> Any:
        """The model x (B, L, W), beams (B,), cosines, sines (., 1, L, E) by rotation, masks by window -> h (B, L, W).

        turns: the widths of the rotations' heads.
        """
        op = self.op
        x = op.parameter([-1, -1, parts.width], np.float32, name="x")
        self.beams = op.parameter([-1], np.int32, name="beams")
        self.angles = [
            [op.parameter([-1, 1, -1, width], np.float32, name=f"{name}{i}") for name in ("cosines", "sines")]
            for i, width in enumerate(turns)
        ]
        self.masks = {w: op.parameter([-1, -1, -1, -1], np.float32, name=f"mask{w}") for w in windows}
        self.rows = op.slice(op.shape_of(x), self._ints(0), self._ints(1), self._ints(1))
        h = x
        for i, layer in enumerate(parts.layers):
            h = self._layer(h, layer, str(i))
        h = h if parts.norm is None else self._norm(h, parts.norm)
        given = [x, self.beams, *(p for pair in self.angles for p in pair), *self.masks.values()]
        return self.ov.Model([op.result(h)], self.sinks, given, "stream")

    def head(self, product: Product, width: int) -> Any:
        """The model h (B, L, W) -> logits (B, L, K)."""
        h = self.op.parameter([-1, -1, width], np.float32, name="h")
        return self.ov.Model([self.op.result(self._product(h, product))], [h], "head")

    def _layer(self, x: Node, layer: LayerParts, name: str) -> Node:
        y = self._attention(self._norm(x, layer.attention_branch.norm), layer.attention, name)
        x = self._join(x, y, layer.attention_branch)
        y = self._feedforward(self._norm(x, layer.feedforward_branch.norm), layer.feedforward)
        return self._join(x, y, layer.feedforward_branch)

    def _join(self, x: Node, y: Node, branch: BranchParts) -> Node:
        y = y if branch.post_norm is None else self._norm(y, branch.post_norm)
        return self.op.add(x, y if branch.scale is None else self.op.multiply(y, self._constant(branch.scale)))

    def _attention(self, h: Node, parts: AttentionParts, name: str) -> Node:
        op, count, shared, width = self.op, parts.heads, parts.shared, parts.width
        packed = self._product(h, parts.inward)
        sizes = self._ints(count * width, shared * width, shared * width)
        apart = op.variadic_split(packed, op.constant(np.int64(2)), sizes).outputs()
        asked, new, values = (self._in_heads(x, n, width) for x, n in zip(apart, (count, shared, shared), strict=True))
        asked = asked if parts.query_norm is None else self._norm(asked, parts.query_norm)
        new = new if parts.key_norm is None else self._norm(new, parts.key_norm)
        if parts.rotary >= 0:
            asked, new = self._turned(asked, parts.rotary, width), self._turned(new, parts.rotary, width)
        keys, values = (self._remembered(f"{n}{name}", x, parts) for n, x in (("keys", new), ("values", values)))
        y = self._attend(asked, keys, values, parts)
        y = op.reshape(op.transpose(y, self._ints(0, 2, 1, 3)), self._ints(0, 0, count * width), True)
        return self._product(y, parts.outward)

    def _attend(self, asked: Node, keys: Node, values: Node, parts: AttentionParts) -> Node:
        op, mask = self.op, self.masks[parts.window]
        if not parts.cap:
            scale = self._number(parts.scale)
            return op.scaled_dot_product_attention(asked, keys, values, mask, scale, causal=False)
        scores = op.matmul(op.multiply(asked, self._number(parts.scale)), keys, False, True)
        scores = op.multiply(op.tanh(op.divide(scores, self._number(parts.cap))), self._number(parts.cap))
        return op.matmul(op.softmax(op.add(scores, mask), 3), values, False, False)

    def _remembered(self, name: str, new: Node, parts: AttentionParts) -> Node:
        """Keys or values (B, heads, P + L, E), for each head of queries, and written down for the next call."""
        op, ov, shared, width = self.op, self.ov, parts.shared, parts.width
        shape = op.concat([self.rows, self._ints(shared, 0, width)], 0)
        none = op.broadcast(self._number(0.0), shape)
        held = ov.opset6.read_value(none, name, ov.Type.f32, ov.PartialShape([-1, shared, -1, width]))
        whole = op.concat([op.gather(held, self.beams, op.constant(np.int64(0))), new], 2)
        self.sinks.append(ov.opset6.assign(whole, name))
        each = parts.heads // shared
        if each == 1:
            return whole
        wide = op.broadcast(
            op.unsqueeze(whole, self._ints(2)), self._ints(1, 1, each, 1, 1), broadcast_spec="BIDIRECTIONAL"
        )
        return op.reshape(wide, self._ints(0, parts.heads, -1, width), True)

    def _in_heads(self, x: Node, count: int, width: int) -> Node:
        """(B, L, heads E) -> (B, heads, L, E)."""
        op = self.op
        return op.transpose(op.reshape(x, self._ints(0, 0, count, width), True), self._ints(0, 2, 1, 3))

    def _turned(self, x: Node, turn: int, width: int) -> Node:
        """Queries or keys (B, heads, L, E) rotated, as `nn.rope.rotate`."""
        op, (cosines, sines) = self.op, self.angles[turn]
        first, last = op.variadic_split(x, op.constant(np.int64(3)), self._ints(width // 2, width // 2)).outputs()
        half = op.concat([op.multiply(last, self._number(-1.0)), first], -1)
        return op.add(op.multiply(x, cosines), op.multiply(half, sines))

    def _feedforward(self, h: Node, parts: FeedForwardParts) -> Node:
        op, act = self.op, self._activation(parts.activation)
        y = self._product(h, parts.up)
        if not parts.gate:
            return self._product(act(y), parts.down)
        half = parts.up.weight.shape[0] // 2
        first, last = op.variadic_split(y, op.constant(np.int64(2)), self._ints(half, half)).outputs()
        gate, value = (first, last) if parts.gate == "first" else (last, first)
        return self._product(op.multiply(act(gate), value), parts.down)

    def _activation(self, name: str) -> Callable[[Node], Node]:
        op = self.op
        known: dict[str, Callable[[Node], Node]] = {
            "gelu": lambda x: op.gelu(x, "ERF"),
            "gelu_tanh": lambda x: op.gelu(x, "TANH"),
            "quick_gelu": lambda x: op.swish(x, self._number(1.702)),
            "relu": op.relu,
            "relu2": lambda x: op.power(op.relu(x), self._number(2.0)),
            "sigmoid": op.sigmoid,
            "silu": op.swish,
        }
        return known[name]

    def _norm(self, x: Node, parts: NormParts) -> Node:
        op = self.op
        if parts.centred:
            y = op.mvn(x, self._ints(-1), True, parts.eps, "INSIDE_SQRT")
        else:
            square = op.reduce_mean(op.power(x, self._number(2.0)), self._ints(-1), True)
            y = op.multiply(x, op.divide(self._number(1.0), op.sqrt(op.add(square, self._number(parts.eps)))))
        y = y if parts.weight is None else op.multiply(y, self._constant(parts.weight))
        return y if parts.bias is None else op.add(y, self._constant(parts.bias))

    def _product(self, x: Node, product: Product) -> Node:
        """Rows (..., K) times the weights, which are kept at the precision."""
        y = self.op.matmul(x, self._weight(product.weight), False, True)
        return y if product.bias is None else self.op.add(y, self._constant(product.bias))

    def _weight(self, weight: Tensor) -> Node:
        if self.precision != "int8" or weight.numel() < LEAST:
            return self._constant(weight)
        whole, scale = rounding(weight.detach().numpy(), axis=1)
        op = self.op
        return op.multiply(op.convert(op.constant(whole), "f32"), op.constant(scale))

    def _constant(self, values: Tensor) -> Node:
        return self.op.constant(values.detach().contiguous().numpy(), dtype=np.float32)

    def _number(self, value: float) -> Node:
        return self.op.constant(np.float32(value))

    def _ints(self, *values: int) -> Node:
        return self.op.constant(np.array(values, np.int64))
