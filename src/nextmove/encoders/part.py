"""The parts of an observation's encoder, each of which encodes some inputs step by step.

Shapes: B batch, T observation steps, W width of what a part shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from nextmove.contracts import TASK, Feature, Numbers, Rng
from nextmove.contracts.features import FeatureType, listed


class Part(Protocol):
    """A module that shows some of the inputs."""

    inputs: Mapping[str, Feature]
    """What it reads."""
    width: int
    """W."""

    def fit(self, numbers: Numbers, steps: int) -> None:
        """Fits its statistics on the last `steps` observations of each training window."""
        ...

    def __call__(self, inputs: Mapping[str, Any], *, batch: int, steps: int, rng: Rng | None) -> Tensor:
        """The last `steps` observations as features (B, steps, W), or as tokens (B, S, W) of its own.

        With `rng` in training, when it draws noise and augmentation.
        """
        ...


@runtime_checkable
class TokenPart(Part, Protocol):
    """A part that shows tokens of its own, W wide."""

    def count(self, steps: int) -> int:
        """Tokens S of this many steps."""
        ...

    def positions(self, steps: int) -> Tensor:
        """Their positions (S, W)."""
        ...


def chosen(inputs: Mapping[str, Feature], names: tuple[str, ...], kind: FeatureType, who: str) -> dict[str, Feature]:
    """The inputs of a type by name, all of that type in order if none is named.

    Raises ValueError naming one that is absent, of another type, with those present, or named twice.
    """
    found = {name: feature for name, feature in inputs.items() if feature.type == kind}
    if not names and not found:
        raise ValueError(f"{who}: expected an input of type {kind}, found {listed(inputs)}")
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ValueError(f"{who}: expected each input once, found {name!r} again")
        if name not in found:
            raise ValueError(f"{who}: expected {name!r}, an input of type {kind}, found {listed(inputs)}")
    return {name: found[name] for name in names} if names else found


def present(inputs: Mapping[str, Any], features: Mapping[str, Feature]) -> list[str]:
    """The features that are there; raises ValueError naming one that is absent and not optional."""
    for name, feature in features.items():
        if name not in inputs and not feature.optional:
            what = "an instruction" if name == TASK else f"feature {name!r}"
            raise ValueError(f"observation: expected {what}, found {sorted(inputs)}")
    return [name for name in features if name in inputs]
