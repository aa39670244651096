"""Products in 8 bits throughout: weights, and what they are multiplied with by ranges that were found beforehand.

Ranges are found on calls in float32: an int8 program of what a policy really sees is a few times nearer to float32's
than one of random numbers. Weights have a scale for each output, what varies one scale for all of it, which is what the
kernels compute from; a range ends where the rounding of all it holds and the cutting of what it leaves out are least.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from nextmove.runtime.int8 import products

LEAST = 1 << 18
"""Fewest weights of a product that is computed in 8 bits where nothing else is asked for: smaller ones take no time."""
SAMPLES = 1 << 16
"""About how many numbers of a product and call its range is found on."""
SHARES = np.linspace(0.3, 1.0, 15)
"""Of the largest numbers, ends that are tried."""
STEPS = 254
"""Of a range, so that 0 is one of its levels."""
Ranges = Mapping[str, float]
"""End of the range of what is multiplied, by the key of the weights (`int8.Product.key`)."""


def found(
    model: Any, calls: Iterable[Sequence[Tensor]], settings: Mapping[str, str], core: Any, least: int
) -> dict[str, float]:
    """The ranges of an OpenVINO model's products of at least so many weights on calls in float32.

    The model itself stays as it is.
    """
    from openvino import Model
    from openvino import opset13 as operations

    kinds = products(model, least)
    if not kinds:
        return {}
    shown = [operations.result(product.node.input(0).get_source_output()) for product in kinds]
    watched = Model([*model.get_results(), *shown], model.get_parameters(), "watched")
    request = core.compile_model(watched, "CPU", dict(settings)).create_infer_request()
    first = len(model.get_results())
    samples: dict[str, list[np.ndarray]] = {}
    largest: dict[str, float] = {}
    keys = [product.key for product in kinds]
    for tensors in calls:
        made = request.infer([x.numpy() for x in tensors], share_inputs=True, share_outputs=True)
        for i, key in enumerate(keys):
            values = np.abs(made[first + i])
            largest[key] = max(largest.get(key, 0.0), float(values.max()))
            samples.setdefault(key, []).append(values.ravel()[:: _stride(values.size, values.shape[-1])].copy())
    return {key: end(np.concatenate(parts), largest[key]) for key, parts in samples.items()}


def _stride(size: int, width: int) -> int:
    """Every which of so many numbers is looked at, so that all columns of a width are."""
    stride = max(1, size // SAMPLES)
    while math.gcd(stride, width) > 1:
        stride += 1
    return stride


def end(values: np.ndarray, largest: float) -> float:
    """The end of the symmetric range that magnitudes (N,) are rounded in with the least square error."""
    if not largest:
        return 1.0
    best, least = largest, np.inf
    for share in SHARES:
        step = 2 * share * largest / STEPS
        error = float(np.square(np.minimum(np.rint(values / step), STEPS // 2) * step - values).mean())
        if error < least:
            best, least = float(share * largest), error
    return best


def quantise(model: Any, ranges: Ranges) -> int:
    """Marks the products of an OpenVINO model whose ranges are known, in place; how many weights they have.

    OpenVINO computes marked products in 8 bits.
    """
    from openvino import opset13 as operations

    marked = 0
    for product in products(model, 1):
        if product.key not in ranges:
            continue
        last = np.float32(ranges[product.key])
        weight = np.abs(product.weight).max(product.axis, keepdims=True).astype(np.float32)
        weight[weight == 0] = 1
        for port, high in ((0, last), (1, weight)):
            ends = [operations.constant(value) for value in (-high, high, -high, high)]
            source = product.node.input(port).get_source_output()
            rounded = operations.fake_quantize(source, *ends, STEPS + 1)
            product.node.input(port).replace_source_output(rounded.output(0))
        marked += product.weight.size
    model.validate_nodes_and_infer_types()
    return marked
