"""A network as an OpenVINO program for fixed shapes: read from the cache, or exported, compiled and cached."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import sys
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from nextmove.config import ConfigError, nearest
from nextmove.runtime import kept
from nextmove.runtime.fingerprint import fingerprint
from nextmove.runtime.int8 import round_weights
from nextmove.runtime.ranges import Ranges, quantise
from nextmove.runtime.tree import apart, read, together, written

Precision = Literal["float32", "bf16", "int8", "w8a8"]


class Program:
    """What computes a network's answers to tensors of the shapes it was made for."""

    def __init__(self, loaded: Any, answer: Any, content: Any = None) -> None:
        """content: the memory that it lies in, where that is not its own."""
        self.loaded, self.answer, self.content = loaded, answer, content
        self._request = loaded.create_infer_request()

    def __call__(self, tensors: Sequence[Tensor]) -> Any:
        """The answer; tensors are contiguous, on the CPU and without gradients."""
        made = self._request.infer([x.numpy() for x in tensors], share_inputs=True, share_outputs=True)
        # The next call writes into the same memory.
        return together(self.answer, [torch.from_numpy(made[i]).clone() for i in range(len(made))])


def check_precision(precision: str) -> None:
    """Raises ConfigError for a precision that is none or that this processor does not compute."""
    known = get_args(Precision)
    if precision not in known:
        raise ConfigError(f"precision: expected {', '.join(known)}; found {precision!r}{nearest(precision, known)}")
    openvino()
    able = _able()
    if precision == "bf16" and "BF16" not in able:
        raise ConfigError(f"precision: expected float32 or int8, found bf16; this processor has {', '.join(able)}")


def program(
    network: nn.Module, form: Any, tensors: Sequence[Tensor], precision: Precision, ranges: Ranges | None = None
) -> Program:
    """What computes `network(*given, **named)`, which `form` and `tensors` stand for (`tree.apart`).

    ranges: of a precision that rounds what varies.

    One that is kept is taken where network, arguments, versions, processor, threads and precision are the same. Raises
    ConfigError where OpenVINO cannot compute the network.
    """
    hints = settings(precision)
    name = _name(network, form, tensors, precision, hints, ranges)
    found = None if name is None else kept.take(name)
    if found is not None:
        try:
            return _taken(*found, hints)
        except RuntimeError as problem:
            warnings.warn(f"{name}: a kept program cannot be loaded and is made anew: {problem}", stacklevel=2)
    model, answer = converted(network, form, tensors)
    if precision == "int8":
        round_weights(model)
    if precision == "w8a8":
        quantise(model, ranges or {})
    loaded = core().compile_model(model, "CPU", hints)
    if name is not None:
        blob = loaded.export_model()
        kept.keep(name, written(answer), blob if isinstance(blob, bytes) else blob.getvalue())
    return Program(loaded, answer)


def _taken(answer: Any, content: memoryview, hints: dict[str, str]) -> Program:
    """A kept program; raises RuntimeError for one that this OpenVINO cannot read."""
    try:
        # Without copies: a stream takes the program's size again, twice.
        place: Any = openvino().Tensor(np.frombuffer(content, np.uint8), shared_memory=True)
        return Program(core().import_model(place, "CPU", hints), read(answer), (place, content))
    except TypeError:  # releases that know streams only
        return Program(core().import_model(io.BytesIO(content), "CPU", hints), read(answer))


class _Answer:
    """Remembers the form of an answer: what exporting leaves alone, unlike a module's lists."""

    form: Any = None


class _Call(nn.Module):
    """A network as a function of tensors only; `answer` has the form of what it gives, once called."""

    def __init__(self, network: nn.Module, form: Any) -> None:
        super().__init__()
        self.network, self.form, self.answer = network, form, _Answer()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The answer's tensors."""
        given, named = together(self.form, tensors)
        made: list[Tensor] = []
        self.answer.form = apart(self.network(*given, **named), made)
        return tuple(made)


def converted(network: nn.Module, form: Any, tensors: Sequence[Tensor]) -> tuple[Any, Any]:
    """OpenVINO's model for exactly these shapes, and the form of the answer."""
    ov = openvino()
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        # Of the libraries about each other, and about the LSTM's list of weights, which is put back.
        warnings.simplefilter("ignore")
        # Some of torch's memory would stay in use, and change with it.
        call = _Call(copy.deepcopy(network), form).eval()
        examples = tuple(torch.zeros(x.shape, dtype=x.dtype) for x in tensors)
        # What is looked at once, such as whether scales are fitted, cannot be while a network is exported.
        call(*examples)
        try:
            model = ov.convert_model(torch.export.export(call, examples, strict=False))
        except Exception as problem:
            first = str(problem).strip().partition("\n")[0]
            raise ConfigError(
                f"runtime: openvino cannot compute {type(network).__name__}: {first}; take runtime torch"
            ) from problem
    model.reshape({model.inputs[i]: list(x.shape) for i, x in enumerate(tensors)})
    return model, call.answer.form


def settings(precision: Precision) -> dict[str, str]:
    # Without the first processors with bf16 units compute in bf16.
    low = precision == "bf16" or (precision == "w8a8" and "BF16" in _able())
    hints = {"INFERENCE_PRECISION_HINT": "bf16" if low else "f32", "PERFORMANCE_HINT": "LATENCY"}
    # Small operations joined by its second compiler gain nothing here, and Mish among them ends in an error.
    hints["SNIPPETS_MODE"] = "DISABLE"
    if precision == "int8":
        # Weights are rounded, what they are multiplied with is not.
        hints["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = "0"
    return {**hints, "INFERENCE_NUM_THREADS": str(torch.get_num_threads())}


def _name(
    network: nn.Module,
    form: Any,
    tensors: Sequence[Tensor],
    precision: str,
    hints: dict[str, str],
    ranges: Ranges | None,
) -> str | None:
    """The name of the program among those kept; None for a network that cannot be told from others."""
    own = fingerprint(network)
    if own is None:
        return None
    shapes = [(tuple(x.shape), str(x.dtype)) for x in tensors]
    own_ranges = sorted((ranges or {}).items())
    facts = [own, written(form), shapes, precision, hints, own_ranges, openvino().__version__, _processor()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:40]


@lru_cache(maxsize=1)
def _able() -> tuple[str, ...]:
    """What the processor computes, in OpenVINO's words."""
    return tuple(core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


@lru_cache(maxsize=1)
def _processor() -> str:
    """The processor by name and abilities: several go by one name."""
    able = list(_able())
    info = Path("/proc/cpuinfo")
    flags = (
        next((line for line in info.read_text().splitlines() if line.startswith("flags")), "") if info.exists() else ""
    )
    return f"{core().get_property('CPU', 'FULL_DEVICE_NAME')} {able} {flags}"


@lru_cache(maxsize=1)
def core() -> Any:
    """One for the process: each gives the thread a stack for signals, and several leave it a freed one when they go."""
    return openvino().Core()


def openvino() -> Any:
    """The package; raises ConfigError where it is not installed."""
    # It sends telemetry to its makers, without asking, where this package can be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino as package
    except ImportError as error:
        raise ConfigError("runtime: openvino is not installed; pip install openvino") from error
    return package
