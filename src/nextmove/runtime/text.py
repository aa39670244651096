"""Networks over ids by OpenVINO: the stream of blocks and the map to logits, token by token with a memory.

The network itself stays, with its embeddings, positions, context and masks; its stream and its head are exchanged. The
keys and values stay where the kernels write them. A memory that a call gives is still a value: one that is not the
newest (another question about the same prefix) is laid back first, copied once.

Shapes: B rows, L tokens, P tokens remembered, W width, K classes, E width of a head.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.config import ConfigError
from nextmove.contracts import KeyValue, Memory
from nextmove.contracts.layers import Bearings, Layered, Product, Spoken, StreamParts
from nextmove.runtime.graph import Graph
from nextmove.runtime.program import Precision, core, openvino
from nextmove.runtime.standing import Standing, computable

_TURN = threading.RLock()


def compile_text(network: nn.Module, precision: Precision) -> None:
    """Exchanges the stream and the head of a network over ids; weights keep their names.

    Raises ConfigError for a network without a stream of transformer blocks, or with one of parts that have no form
    here.
    """
    net = cast(Spoken, network)
    if not hasattr(network, "spoken") or not hasattr(getattr(network, "stream", None), "parts"):
        kind = type(network).__name__
        raise ConfigError(f"runtime: openvino runs transformers token by token, found {kind}; take runtime torch")
    try:
        parts = cast(Layered, net.stream).parts()
    except ValueError as problem:
        raise ConfigError(f"runtime: openvino cannot compute this stream: {problem}; take runtime torch") from None
    net.head = CompiledHead(net.head, net.spoken(), parts.width, precision, network.training)
    net.stream = CompiledStream(net.stream, precision)


class _Line:
    """One text: its keys and values, while another is read."""

    def __init__(self) -> None:
        self.kept: list[Tensor] | None = None


class Held(Memory):
    """A memory whose keys and values lie in the runtime; they come out where someone looks at `layers`."""

    def __init__(self, stream: CompiledStream, line: _Line, length: int, mask: Tensor | None, count: Tensor) -> None:
        for name, value in (("mask", mask), ("count", count), ("_spare", []), ("_held", (stream, line, length))):
            object.__setattr__(self, name, value)

    @property
    def length(self) -> int:
        """P."""
        found: int = self._held[2]  # type: ignore[attr-defined]
        return found

    @property
    def layers(self) -> tuple[KeyValue | None, ...]:
        """Copies."""
        stream, line, length = self._held  # type: ignore[attr-defined]
        return cast(CompiledStream, stream).read(line, length)

    def is_of(self, stream: CompiledStream, line: _Line, length: int) -> bool:
        """Whether this is what a stream holds."""
        return bool(self._held == (stream, line, length))  # type: ignore[attr-defined]

    def room(self, n: int) -> Memory:
        """Itself: every call goes on from it as it is."""
        return self


class CompiledStream(Standing):
    """A stream by OpenVINO on as many threads as torch has; what `computable` says no to goes to the stream itself."""

    def __init__(self, net: nn.Module, precision: Precision) -> None:
        super().__init__(net)
        self.train(net.training)
        self.precision = precision
        self._request: Any = None
        self._line: weakref.ref[_Line] | None = None
        self._length = self._threads = 0

    def forward(self, x: Tensor, **named: Any) -> tuple[Tensor, Memory | None]:
        """As of the stream."""
        given = {name: value for name, value in named.items() if value is not None}
        positions, mask, memory, valid = (given.pop(name, None) for name in ("positions", "mask", "memory", "valid"))
        kept = given.pop("remember", True)
        whole = memory is None or isinstance(memory, Held) or None not in memory.layers
        if given or not kept or not whole or not x.numel() or not computable(self.net, [x]):
            return self.net(x, **named)
        bearings = cast(Layered, self.net).bearings(x, positions, mask, memory, valid)
        with _TURN:
            self._prepare()
            before, line = 0 if memory is None else memory.length, self._resume(memory)
            h = self._infer(x, bearings, before)
            self._length, self._line = before + x.shape[1], weakref.ref(line)
            return h, Held(self, line, self._length, bearings.mask, bearings.count)

    def read(self, line: _Line, length: int) -> tuple[KeyValue | None, ...]:
        """The keys and values of the first tokens of a text."""
        with _TURN:
            parts = [x[:, :, :length] for x in line.kept or self._states()]
        return tuple(KeyValue(*pair) for pair in zip(parts[::2], parts[1::2], strict=True))

    def _prepare(self) -> None:
        """Compiles, the first time and where weights or threads are others."""
        threads = torch.get_num_threads()
        if not self.changed() and self._request is not None and threads == self._threads:
            return
        self._keep()
        parts: StreamParts = cast(Layered, self.net).parts()
        attention = [layer.attention for layer in parts.layers]
        widths = {part.rotary: part.width for part in attention if part.rotary >= 0}
        self._windows = sorted({part.window for part in attention})
        model = Graph(self.precision).stream(parts, [widths[i] for i in sorted(widths)], self._windows)
        self._request = core().compile_model(model, "CPU", hints(self.precision)).create_infer_request()
        self._order = [f"{n}{i}" for i in range(len(parts.layers)) for n in ("keys", "values")]
        self._variables = {state.name: state for state in self._request.query_state()}
        self._threads = threads

    def _infer(self, x: Tensor, bearings: Bearings, before: int) -> Tensor:
        length = x.shape[1]
        given: dict[str, Any] = {"x": _numbers(x), "beams": np.arange(len(x), dtype=np.int32)}
        for i, pair in enumerate(bearings.angles):
            for name, half in zip(("cosines", "sines"), pair, strict=True):
                rows = half if half.dim() == 3 else half[None]
                given[f"{name}{i}"] = _numbers(torch.cat([rows, rows], -1)[:, None])
        for window in self._windows:
            given[f"mask{window}"] = _added(bearings.masks[window], length, before + length)
        found = self._request.infer(given, share_inputs=True, share_outputs=True)
        return torch.from_numpy(found[0]).clone()

    def _resume(self, memory: Memory | None) -> _Line:
        """Puts a memory where the next call reads it; the text that goes on."""
        line = self._line() if self._line is not None else None
        if line is not None and isinstance(memory, Held) and memory.is_of(self, line, self._length):
            return line
        self._keep()
        self._request.reset_state()
        if memory is None:
            return _Line()
        tensors = [part for layer in memory.layers if layer is not None for part in (layer.keys, layer.values)]
        for name, part in zip(self._order, tensors, strict=True):
            self._variables[name].state = openvino().Tensor(_numbers(part))
        return _Line()

    def _keep(self) -> None:
        """Copies out what another text is going to take the place of, while someone may go on from it."""
        line = self._line() if self._line is not None else None
        if line is not None:
            line.kept = self._states()
        self._line = None

    def _states(self) -> list[Tensor]:
        """Copies."""
        return [torch.from_numpy(np.array(self._variables[name].state.data, np.float32)) for name in self._order]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_request": None, "_line": None, "_variables": {}, "_length": 0}


class CompiledHead(Standing):
    """The map from a stream to logits; without weights of its own where it is the embedding."""

    def __init__(
        self, head: nn.Module | None, product: Product, width: int, precision: Precision, training: bool
    ) -> None:
        super().__init__(nn.Module() if head is None else head)
        self.train(training)
        self.product, self.width, self.precision = product, width, precision
        self._weights = [product.weight] if product.bias is None else [product.weight, product.bias]
        self._request: Any = None
        self._threads = 0

    def forward(self, h: Tensor) -> Tensor:
        """h (B, L, W) -> logits (B, L, K)."""
        if not h.numel() or h.dim() != 3 or not computable(self.net, [h]):
            return F.linear(h, self.product.weight, self.product.bias)
        with _TURN:
            if self.changed() or self._request is None or self._threads != torch.get_num_threads():
                model = Graph(self.precision).head(self.product, self.width)
                self._request = core().compile_model(model, "CPU", hints(self.precision)).create_infer_request()
                self._threads = torch.get_num_threads()
            found = self._request.infer([_numbers(h)], share_inputs=True, share_outputs=True)
            return torch.from_numpy(found[0]).clone()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_request": None}


def hints(precision: Precision) -> dict[str, str]:
    """The settings of the kernels: weights are rounded, what they are multiplied with is not."""
    kind = "bf16" if precision == "bf16" else "f32"
    return {
        "INFERENCE_PRECISION_HINT": kind,
        "KV_CACHE_PRECISION": kind,
        "PERFORMANCE_HINT": "LATENCY",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
    }


def _numbers(x: Tensor) -> np.ndarray:
    found: np.ndarray = x.detach().float().contiguous().numpy()
    return found


def _added(mask: Tensor | None, length: int, keys: int) -> np.ndarray:
    """What is added to scores (., ., L, S): 0 where a query may attend, -inf elsewhere."""
    if mask is None:
        return np.zeros((1, 1, length, keys), np.float32)
    mask = mask[(None,) * (4 - mask.dim())]
    mask = mask.expand(*mask.shape[:2], length, keys)
    return _numbers(torch.where(mask, 0.0, -torch.inf) if mask.dtype == torch.bool else mask)
