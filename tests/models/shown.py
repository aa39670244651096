"""Observations of every type of input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import uint8

from nextmove.contracts import Feature, normal, seeded, uniform


def shown(inputs: Mapping[str, Feature], rows: int, steps: int) -> dict[str, Any]:
    """Normal numbers (B, T, ...), images of noise, and one of two instructions for each row."""
    found: dict[str, Any] = {}
    for name, feature in inputs.items():
        # The draws of an input do not depend on which others there are.
        rng, shape = seeded(len(name), feature.width), (rows, steps, *feature.shape)
        if feature.type == "text":
            found[name] = ["push the block", "lift the cube"] * (rows // 2) + ["push the block"] * (rows % 2)
        else:
            image = feature.type == "image"
            found[name] = (256 * uniform(shape, rng)).to(uint8) if image else normal(shape, rng)
    return found
