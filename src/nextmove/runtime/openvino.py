"""Networks that OpenVINO computes: on CPUs the same numbers, up to the precision asked for, in less time.

Each network of a model is exchanged where it stands, an encoder, a step or a generator. The sampler stays outside and
calls it, so solvers, steps, guidance and known parts are chosen as before. `pip install openvino`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from nextmove.config import ConfigError
from nextmove.contracts import Context
from nextmove.contracts.networks import Networked
from nextmove.runtime import int8
from nextmove.runtime.program import Precision, Program, check_precision, program
from nextmove.runtime.ranges import Ranges
from nextmove.runtime.standing import Standing, computable
from nextmove.runtime.text import compile_text
from nextmove.runtime.tree import apart

ROWS = 2
"""Most rows compiled for, one robot guided or not: every number of rows is compiled anew, which takes seconds."""
FORMS = 16
"""Most programs of one network in memory: shapes, instructions and numbers of threads that it was called with."""
TOKENS = 16
"""Of a prefix, of which a program reads a multiple."""
_TURN = threading.RLock()
"""Compiling changes torch for the whole process, and what is compiled answers into one place."""
Model = TypeVar("Model", bound=Networked)


def compiled(model: Model, precision: Precision = "float32", ranges: Ranges | None = None) -> Model:
    """The same model, changed in place, whose networks OpenVINO computes for one robot; weights keep their names.

    precision: of the arithmetic; int8 rounds the weights of large products, and computes in float32; w8a8 rounds what
    they are multiplied with too, in the `ranges` that `calibrate` finds, and computes the rest in bf16 where the
    processor can. Networks without parameters (an encoder that only scales) stay as they are.

    Raises ConfigError where OpenVINO is not installed, the precision is none that this processor computes, lacks ranges
    or would round nothing, or a network that carries a state from token to token is no transformer.
    """
    check_precision(precision)
    if (precision == "w8a8") != (ranges is not None):
        wants = "ranges, which runtime.calibrate finds" if ranges is None else "no ranges, of which only w8a8 knows"
        raise ConfigError(f"precision: {precision} expects {wants}")
    found = model.networks()
    if precision == "int8" and "token" not in found and not any(int8.matrices(n, int8.LEAST) for n in found.values()):
        raise ConfigError(
            f"precision: int8 rounds products of at least {int8.LEAST} weights, and these networks have none; take "
            "float32 or bf16"
        )
    if "token" in found:
        # One that goes on in the language model of a prefix reads that as well.
        if precision == "w8a8":
            raise ConfigError("precision: w8a8 is not for networks that write token by token; take int8")
        compile_text(getattr(found["token"], "language", found["token"]), precision)
    for name, network in found.items():
        if name == "token" or (name == "prefix" and "token" in found):
            continue
        if next(network.parameters(), None) is not None:
            model.exchange(name, standing(name, network, precision, ranges))
    return model


def standing(name: str, network: nn.Module, precision: Precision, ranges: Ranges | None = None) -> Compiled:
    """What stands in the place of a network of this name."""
    return (CompiledReader if name == "prefix" else Compiled)(network, precision, ranges)


class Compiled(Standing):
    """A network by OpenVINO on as many threads as torch has, compiled at the first call of each shape.

    It takes what the network takes and is asked what the network is asked. Weights that were changed in place or
    loaded since are compiled anew. More than `ROWS` rows, training, gradients and tangents, numbers that are not
    finite, random generators and anything but float32 on a CPU go to the network itself. Threads take turns. An
    instruction is a part of the program, so a new one is compiled once. Saved, copied or pickled it is the network it
    stands for.
    """

    def __init__(self, net: nn.Module, precision: Precision = "float32", ranges: Ranges | None = None) -> None:
        super().__init__(net)
        self.precision, self.ranges = precision, ranges
        self.calls: list[tuple[Any, list[Tensor]]] | None = None
        """Where it is a list, calls are written down and go to the network itself."""
        self._ready: OrderedDict[Any, Program] = OrderedDict()
        self._prefix: Any = None

    def forward(self, *given: Any, **named: Any) -> Any:
        """What the network answers to tensors, contexts, mappings of observations and plain values."""
        tensors: list[Tensor] = []
        prepared: Any = getattr(self.net, "prepared", None)
        if prepared is not None:
            given, named = prepared(*given, **named), {}
        try:
            form = apart((tuple(map(self._read, given)), named), tensors)
        except TypeError:
            return self.net(*given, **named)
        laid = self._laid(tensors, _prefixes(given)) if self._fits(tensors) else None
        if laid is None:
            return self.net(*given, **named)
        if self.calls is not None:
            self.calls.append((form, laid))
            return self.net(*given, **named)
        key = (torch.get_num_threads(), form, *((x.shape, x.dtype) for x in tensors))
        with _TURN:
            if self.changed():
                self._ready.clear()
            if key not in self._ready:
                self._ready[key] = program(self.net, form, laid, self.precision, self.ranges)
                if len(self._ready) > FORMS:
                    self._ready.popitem(last=False)
            self._ready.move_to_end(key)
            return self._ready[key](laid)

    def _read(self, argument: Any) -> Any:
        """An argument without what the network does not look at."""
        if isinstance(argument, Context):
            return argument.replace(null=None)
        inputs = getattr(self.net, "inputs", None)
        if isinstance(argument, Mapping) and inputs is not None:
            return {name: argument[name] for name in inputs if name in argument}
        return argument

    def _fits(self, tensors: list[Tensor]) -> bool:
        if not tensors or any(x.dim() > 1 and len(x) > ROWS for x in tensors):
            return False
        return computable(self.net, tensors)

    def _laid(self, tensors: list[Tensor], prefix: set[int]) -> list[Tensor] | None:
        """The tensors with their numbers one after the other; None where some are not finite.

        A prefix is never written again: its keys and values, known by identity, are looked at and laid once.
        """
        laid, self._prefix = [], WeakIdKeyDictionary() if self._prefix is None else self._prefix
        for x in tensors:
            found = self._prefix.get(x) if id(x) in prefix else None
            if found is None:
                if x.is_floating_point() and not bool(x.isfinite().all()):
                    return None
                found = x.detach().contiguous()
                if id(x) in prefix:
                    # A view with a life of its own, not the tensor, which would be kept by itself.
                    self._prefix[x] = found = found.view(found.shape)
            laid.append(found)
        return laid

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_ready": OrderedDict(), "_prefix": None}


class CompiledReader(Compiled):
    """What reads a prefix: its tokens are padded to a multiple of `TOKENS`, so that few lengths of words are compiled.

    What is padded nobody reads, and positions do not count it.
    """

    def forward(self, x: Tensor, valid: Tensor | None = None, block: Tensor | None = None) -> Any:
        """The memory of embedded tokens x (B, P, W), arguments as of `encoders.reading_networks.Reader`."""
        if len(x) > ROWS or not computable(self.net, [x]):
            return self.net(x, valid, block)
        more = -x.shape[1] % TOKENS
        valid = x.new_ones(x.shape[:2], dtype=torch.bool) if valid is None else valid
        block = None if block is None else F.pad(block, (0, more))
        return super().forward(F.pad(x, (0, 0, 0, more)), F.pad(valid, (0, more)), block)


def _prefixes(given: tuple[Any, ...]) -> set[int]:
    """The identities of the keys and values of all prefixes among the arguments."""
    memories = [ctx.memory for ctx in given if isinstance(ctx, Context) and ctx.memory is not None]
    layers = [layer for memory in memories for layer in memory.layers if layer is not None]
    return {id(part) for layer in layers for part in (layer.keys, layer.values)}
