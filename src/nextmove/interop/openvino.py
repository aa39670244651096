"""Policies whose network OpenVINO runs: on CPUs the same float32 numbers, up to rounding, in less time.

Only the network inside the decoder is exchanged. The sampler stays outside and calls it, so solvers, steps, guidance
and known parts are chosen as before. `pip install openvino`. Letters: B batch, H horizon, A action width,
C channels, n times.
"""

from __future__ import annotations

import copy
import sys
import threading
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.config import ConfigError
from nextmove.contracts import Context, _torch

ROWS = 2
"""Most rows compiled for, one robot guided or not: every number of rows is compiled anew, which takes seconds."""
PARTS = ("vector", "tokens", "mask")
_TURN = threading.RLock()
"""Compiling changes torch for the whole process, and what is compiled answers into one place."""


def compiled(policy: Any) -> Any:
    """The same policy, changed in place, whose plans for one robot OpenVINO computes; its weights keep their names.

    Raises ConfigError where OpenVINO is not installed, or the network keeps a memory between its calls (action tokens).
    """
    _openvino()
    networks = policy.networks()
    if "step" not in networks:
        raise ConfigError("runtime: openvino runs networks without a memory; token by token takes runtime torch")
    policy.exchange("step", Compiled(networks["step"]))
    return policy


class Compiled(nn.Module):
    """`net(x, t, ctx)` by OpenVINO on as many threads as torch has, compiled at the first call of each shape.

    Weights that were changed in place or loaded since are compiled anew. More than `ROWS` rows, training, gradients and
    tangents, memories, numbers that are not finite and anything but float32 on a CPU go to the network itself. Threads
    take turns. Saved, copied or pickled it is the network it stands for.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self._weights = [*net.parameters(), *net.buffers()]
        self._ready: dict[Any, Callable[[list[Any]], Tensor]] = {}
        self._state: list[tuple[int, int]] = []
        self.register_load_state_dict_pre_hook(_within)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context) -> Tensor:
        """What the network answers to x (B, H, A) or (B, C, height, width), times t (B, n) and what it is told."""
        parts = {name: getattr(ctx, name) for name in PARTS}
        given = {name: part for name, part in {"x": x, "t": t, **parts}.items() if part is not None and part.numel()}
        if not self._fits(x, ctx) or not all(bool(part.isfinite().all()) for part in given.values()):
            answer: Tensor = self.net(x, t, ctx)
            return answer
        key = (torch.get_num_threads(), x.shape, *((name, part.shape, part.dtype) for name, part in given.items()))
        with _TURN:
            state = [(w.data_ptr(), 0 if w.is_inference() else w._version) for w in self._weights]
            if state != self._state:
                self._ready, self._state = {}, state
            if key not in self._ready:
                self._ready[key] = _compile(self.net, x.shape, given)
            return self._ready[key]([part.detach().contiguous().numpy() for part in given.values()])

    def _fits(self, x: Tensor, ctx: Context) -> bool:
        if self.net.training or torch.is_grad_enabled() or len(x) > ROWS or ctx.memory is not None:
            return False
        # Tangents and batches of torch.func exist in torch only.
        return not _torch.transformed(x) and x.device.type == "cpu" and x.dtype == torch.float32

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """The network's, under its own names."""
        return self.net.state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ready": {}, "_state": []}


def _within(_: nn.Module, tensors: dict[str, Tensor], prefix: str, *__: Any) -> None:
    """Names of a network to those inside `Compiled`."""
    for name in [name for name in tensors if name.startswith(prefix)]:
        tensors[f"{prefix}net.{name.removeprefix(prefix)}"] = tensors.pop(name)


class _Call(nn.Module):
    """A network as a function of tensors only; x of width 0 is none of them."""

    def __init__(self, net: nn.Module, shape: torch.Size, names: tuple[str, ...]) -> None:
        super().__init__()
        self.net, self.shape, self.names = net, shape, names

    def forward(self, *given: Tensor) -> Tensor:
        """(B, H, out), or like an image."""
        told = dict(zip(self.names, given, strict=True))
        x = told["x"] if "x" in told else given[0].new_empty(self.shape)
        ctx = Context(self.shape[0], told.get("vector"), told.get("tokens"), told.get("mask"))
        answer: Tensor = self.net(x, told.get("t"), ctx)
        return answer


def _compile(net: nn.Module, shape: torch.Size, given: dict[str, Tensor]) -> Callable[[list[Any]], Tensor]:
    """What computes `net` of arrays like `given`."""
    openvino = _openvino()
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        # Some of torch's memory would stay in use, and change with it.
        net = copy.deepcopy(net)
        # Of the libraries about each other, and about the LSTM's list of weights, which is put back.
        warnings.simplefilter("ignore")
        examples = tuple(torch.zeros(part.shape, dtype=part.dtype) for part in given.values())
        graph = torch.export.export(_Call(net, shape, tuple(given)).eval(), examples, strict=False)
        model = openvino.convert_model(graph)
    # Without the hint processors with bf16 units compute in bf16.
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    hints["INFERENCE_NUM_THREADS"] = str(torch.get_num_threads())
    request = _core().compile_model(model, "CPU", hints).create_infer_request()

    def call(arrays: list[Any]) -> Tensor:
        made = request.infer(arrays, share_inputs=True, share_outputs=True)[0]
        # The next call writes into the same memory.
        return torch.from_numpy(made).clone()

    return call


@lru_cache(maxsize=1)
def _core() -> Any:
    """One for the process: each gives the thread a stack for signals, and several leave it a freed one when they go."""
    return _openvino().Core()


def _openvino() -> Any:
    # It reports its use to its makers where this package can be imported; it asks nobody.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise ConfigError("runtime: openvino is not installed; pip install openvino") from error
    return openvino
