"""States to features: numbers as they are or as points relative to the robot and their goals, scaled.

Shapes: B batch, T observation steps, D width of a feature, W width of what is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nextmove.codecs.joined import Joined
from nextmove.codecs.scaled import Mode, Scaled
from nextmove.contracts import Feature, Numbers, Rng, normal
from nextmove.contracts.features import listed
from nextmove.encoders.part import chosen, present
from nextmove.encoders.views import Plain, Points


@dataclass(frozen=True)
class State:
    """Which states are shown, and how."""

    features: tuple[str, ...] = ()
    """Names in the order in which they are shown; none: all states in file order."""
    view: Literal["auto", "plain", "points"] = "auto"
    """`points` where there are points, a goal for each and the robot's position; else `plain`."""
    points: str = "observation.environment_state"
    reference: str = "observation.state"
    """Position of the robot, in the frame of the points."""
    goal: str = "observation.goal"
    near_scale: float = 10.0
    """Errors up to about this size (units of the points) are shown magnified."""
    scaling: Mode = "mean_std"
    noise: float = 0.02
    """Noise on the scaled states in training, as a share of their spread."""
    hidden: tuple[int, ...] = ()
    """Widths of an MLP (ReLU between its layers) through which each step passes; none: as they are."""

    def resolve(self, inputs: Mapping[str, Feature]) -> State:
        """The same with `auto` decided from the inputs; raises ValueError where points were asked for in vain."""
        found = {name: f.width for name, f in inputs.items() if f.type == "state"}
        fits = {self.points, self.reference, self.goal} <= set(found) and found[self.goal] == found[self.points]
        fits = fits and (not self.features or {self.points, self.reference, self.goal} <= set(self.features))
        if self.view == "points" and not fits:
            raise ValueError(
                f"state.view: 'points' needs {self.points!r}, {self.goal!r} of its width and {self.reference!r}; "
                f"found {listed(inputs)}"
            )
        return replace(self, view=("points" if fits else "plain") if self.view == "auto" else self.view)

    def build(self, inputs: Mapping[str, Feature], *, along: bool = False) -> StateEncoder:
        """The part; `along`: points are shown in the object's frame.

        Raises ValueError naming a state that is absent.
        """
        resolved = self.resolve(inputs)
        view: Plain | Points = Plain()
        features = chosen(inputs, self.features, "state", "state")
        if resolved.view == "points":
            view = Points(self.points, self.reference, self.goal, self.near_scale, "object" if along else "world")
            used = {self.points, self.reference, self.goal}
            features = {name: feature for name, feature in features.items() if name in used}
        scale = Scaled(view.width(_widths(features)), mode=self.scaling)
        return StateEncoder(view, scale, features, noise=self.noise, hidden=self.hidden)


class StateEncoder(nn.Module):
    """Observed states (B, T, D) by name -> (B, steps, W), scaled."""

    def __init__(
        self,
        view: Plain | Points,
        scale: Scaled | Joined,
        features: Mapping[str, Feature],
        *,
        noise: float = 0.0,
        hidden: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.view, self.scale, self.inputs, self.noise = view, scale, dict(features), noise
        self.widths = _widths(features)
        shown = view.width(self.widths)
        layers: list[nn.Module] = []
        for inner, outer in pairwise((shown, *hidden)):
            layers += [nn.Linear(inner, outer), nn.ReLU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.width = hidden[-1] if hidden else shown

    def fit(self, numbers: Numbers, steps: int) -> None:
        """Fits the scale on what is shown of all training windows.

        Columns that are shown as they are give it without making windows. Raises ValueError for a scale that holds
        another project's statistics.
        """
        if not isinstance(self.scale, Scaled):
            raise ValueError("state: expected a scale to fit, found one with a checkpoint's own statistics")
        if isinstance(self.view, Plain):
            self.scale.take(*numbers.observed(list(self.inputs), steps, self.scale.levels))
        else:
            self.scale.fit_parts(
                lambda: (
                    (self.show(part, steps).flatten(0, 1).numpy(), self.view.size(part, self.widths).numpy())
                    for part in numbers.parts()
                )
            )

    def show(self, inputs: Mapping[str, Any], steps: int) -> Tensor:
        """The last `steps` observations before scaling, (B, steps, W); what is absent and optional is NaN.

        Raises ValueError naming a feature that is absent or has another width.
        """
        there = present(inputs, self.inputs)
        for name in there:
            if inputs[name].shape[-1] != self.widths[name]:
                raise ValueError(f"{name}: expected width {self.widths[name]}, found {inputs[name].shape[-1]}")
        if len(there) < len(self.inputs):
            like = inputs[there[0]] if there else torch.zeros(1, steps, 1)
            absent = {
                n: like.new_full((*like.shape[:2], w), torch.nan) for n, w in self.widths.items() if n not in there
            }
            inputs = {**inputs, **absent}
        return self.view.show(inputs, self.widths)[:, -steps:]

    def forward(self, inputs: Mapping[str, Any], *, batch: int, steps: int, rng: Rng | None = None) -> Tensor:
        """(B, steps, W); with `rng` (training) noise of the configured size is added to the scaled values."""
        x = self.scale.encode(self.show(inputs, steps))
        if any(feature.optional for feature in self.inputs.values()):
            x = x.nan_to_num(0.0).expand(batch, -1, -1)
        if rng is not None and self.noise:
            x = x + self.noise * normal(x.shape, rng, like=x)
        y: Tensor = self.mlp(x)
        return y


def _widths(features: Mapping[str, Feature]) -> dict[str, int]:
    return {name: feature.width for name, feature in features.items()}
