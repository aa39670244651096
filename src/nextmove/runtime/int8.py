"""Weights of large products as 8-bit integers and a scale for each output, in the form that OpenVINO computes from.

Nothing but weights is rounded, so no data are needed; at batch 1 the time goes into reading them. It is what nncf's
`compress_weights` does, without its scikit-learn, pandas and networkx.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

LEAST = 1 << 14
"""Fewest weights of a product that are rounded."""


def round_weights(model: Any) -> int:
    """Rounds the weights of an OpenVINO model's products in place; how many weights were."""
    from openvino import opset13 as operations

    rounded = 0
    for product in products(model, LEAST):
        whole, scale = rounding(product.weight, product.axis)
        wide = operations.multiply(operations.convert(operations.constant(whole), "f32"), operations.constant(scale))
        product.node.input(1).replace_source_output(wide.output(0))
        rounded += product.weight.size
    model.validate_nodes_and_infer_types()
    return rounded


def matrices(network: nn.Module, least: int) -> bool:
    """Whether a network of torch has matrices of at least so many weights that something is multiplied with."""
    tables = {id(table) for part in network.modules() if isinstance(part, nn.Embedding) for table in part.parameters()}
    found = (weight for weight in network.parameters() if weight.dim() == 2 and id(weight) not in tables)
    return any(weight.numel() >= least for weight in found)


@dataclass(frozen=True)
class Product:
    """A node that multiplies what varies with a matrix of weights, whose inputs lie along `axis`."""

    node: Any
    weight: np.ndarray
    axis: int

    @property
    def key(self) -> str:
        """The weights' content, by which the product is known in every program."""
        return hashlib.blake2b(self.weight.tobytes(), digest_size=8).hexdigest()


def products(model: Any, least: int) -> list[Product]:
    """The products of an OpenVINO model with at least so many weights, in the order of computing."""
    found, varies = [], set[str]()
    for node in model.get_ordered_ops():
        sources = [port.get_source_output().get_node().get_name() for port in node.inputs()]
        if node.get_type_name() == "Parameter" or not varies.isdisjoint(sources):
            varies.add(node.get_name())
        # What constants give is computed once, when the model is compiled; OpenVINO fails there on rounded weights.
        if node.get_type_name() != "MatMul" or sources[0] not in varies:
            continue
        source = node.input(1).get_source_output().get_node()
        if source.get_type_name() != "Constant" or source.get_element_type().get_type_name() != "f32":
            continue
        weight = source.data
        if weight.ndim == 2 and weight.size >= least:
            found.append(Product(node, weight, 1 if node.get_attributes()["transpose_b"] else 0))
    return found


def rounding(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 and float32 scales, one along `axis`, whose product is nearest to a matrix of weights."""
    scale = np.abs(weight).max(axis, keepdims=True).astype(np.float32) / 127
    scale[scale == 0] = 1
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale
