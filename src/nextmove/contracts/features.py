"""Typed input features of a model, the same for data sets, simulators, policies and servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Batch = Mapping[str, Any]
TASK = "task"
"""Name of the instruction, a string, in observations and batches alike."""
PLAN = "plan"
"""Name of the next sub-task in words: a column of strings in data sets, a list of them in batches."""
FeatureType = Literal["state", "image", "points", "text", "label"]


@dataclass(frozen=True)
class Feature:
    """One input: what it is and the shape of one observation of it, without batch and time.

    state: (D,) numbers; image: (height, width, channels) uint8; points: (P, D), P 0 where their number varies, D at
    least the 3 of a place; text: (), a string; label: (), an integer.
    """

    type: FeatureType
    shape: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    """Of the dimensions (joints), as far as they are known."""
    optional: bool = False
    """Whether a model may do without it; an absent one is shown as zeros."""

    def __post_init__(self) -> None:
        axes = {"state": 1, "image": 3, "points": 2, "text": 0, "label": 0}[self.type]
        if len(self.shape) != axes:
            raise ValueError(f"shape: expected {axes} axes of a feature of type {self.type}, found {self.shape}")

    @property
    def width(self) -> int:
        """Numbers in the last axis: of a state D, of an image its channels."""
        return self.shape[-1] if self.shape else 1

    @property
    def is_number(self) -> bool:
        """Whether statistics of it are taken."""
        return self.type in ("state", "points")

    def __str__(self) -> str:
        return f"{self.type} {list(self.shape)}" if self.shape else self.type


def states(widths: Mapping[str, int]) -> dict[str, Feature]:
    """Features of type state by name and width."""
    return {name: Feature("state", (width,)) for name, width in widths.items()}


def listed(inputs: Mapping[str, Feature]) -> str:
    """Inputs as text, for errors."""
    return ", ".join(f"{name} ({feature})" for name, feature in inputs.items()) or "none"


class ObservationError(ValueError):
    """An observation that cannot be acted upon: of `row` of the batch (-1: of all), `ago` steps before the latest."""

    def __init__(self, problem: str, *, row: int = -1, ago: int = 0) -> None:
        step = f"{ago} steps before the latest" if ago else "the latest step"
        super().__init__(problem if row < 0 else f"{problem} (row {row}, {step})")
        self.problem, self.row, self.ago = problem, row, ago
