"""A state that is measured in training only, estimated from cameras in its place.

A simulator knows where its objects are, a camera sees them. A policy of states (points, frames, scales and all) acts
from cameras when what it would have been told is estimated first (privileged information in training: Chen et al. 2020,
Learning by Cheating; keypoints as the state: Levine et al. 2016).

Shapes: B batch, T observation steps, D width of the state, n rows whose images are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.codecs.scaled import Scaled
from nextmove.contracts import Feature, Numbers, Rng, uniform
from nextmove.encoders.camera import Camera, CameraEncoder
from nextmove.encoders.part import chosen
from nextmove.nn.small_resnet import SmallResNet


@dataclass(frozen=True)
class StateEstimator:
    """Which state is estimated, and by what network."""

    state: str = "observation.environment_state"
    camera: Camera = Camera(backbone=SmallResNet(), keypoints=64)
    hidden: tuple[int, ...] = (256, 256)
    """Widths of an MLP (ReLU) from what the cameras show to the state."""
    share: float = 0.125
    """Share of a training batch whose images are looked at. The other rows are shown the measured state with the errors
    of these added, so that a policy learns to act on estimates at the price of a few images a step."""

    def build(self, inputs: Mapping[str, Feature]) -> StateEstimatorNetwork:
        """The part; raises ValueError naming a state or camera that is absent."""
        if not 0 < self.share <= 1:
            raise ValueError(f"state_estimator.share: expected a share above 0, at most 1, found {self.share}")
        target = chosen(inputs, (self.state,), "state", "state_estimator")
        return StateEstimatorNetwork(self, self.camera.build(inputs), target[self.state])


class StateEstimatorNetwork(nn.Module):
    """Observations (B, T, ...) by name -> the same with the estimated state (B, T, D), in its units."""

    def __init__(self, config: StateEstimator, camera: CameraEncoder, target: Feature) -> None:
        super().__init__()
        self.config, self.camera = config, camera
        self.inputs: dict[str, Feature] = camera.inputs
        """What it reads."""
        self.targets = {config.state: target}
        """What it is trained to tell, which is read in training only."""
        layers: list[nn.Module] = []
        for width, out in pairwise((camera.width, *config.hidden, target.width)):
            layers += [nn.Linear(width, out), nn.ReLU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.scale = Scaled(target.width, name=config.state)

    def fit(self, numbers: Numbers) -> None:
        """Fits the scale on the state of all training windows."""
        self.scale.take(*numbers.observed([self.config.state], 1, self.scale.levels))

    def estimate(self, obs: Mapping[str, Any]) -> Tensor:
        """The scaled state (B, T, D)."""
        batch, steps = next(obs[name] for name in self.inputs).shape[:2]
        y: Tensor = self.mlp(self.camera(obs, batch=batch, steps=steps, rng=None))
        return y.float()

    def forward(self, obs: Mapping[str, Any]) -> dict[str, Any]:
        """The observations with the estimate in the state's place."""
        return {**obs, self.config.state: self.scale.decode(self.estimate(obs))}

    def trained(self, obs: Mapping[str, Any], rng: Rng | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Observations as the policy is trained on them, and the mean absolute error of the scaled estimates.

        With `rng` (training) the first n rows are looked at; all rows are shown the measured state plus the error of
        one of these, drawn with `rng`, the first their own. Without it, every row is shown its estimate.
        """
        truth = obs[self.config.state]
        rows = len(truth) if rng is None else max(1, round(self.config.share * len(truth)))
        seen = self.estimate({name: obs[name][:rows] for name in self.inputs})
        error = seen - self.scale.encode(truth[:rows])
        terms = {"estimate": error.abs().mean()}
        if rng is None:
            return {**obs, self.config.state: self.scale.decode(seen)}, terms
        whose = (uniform((len(truth),), rng) * rows).long().clamp(max=rows - 1).to(truth.device)
        whose[:rows] = torch.arange(rows, device=truth.device)
        shown = self.scale.encode(truth) + error.detach()[whose]
        return {**obs, self.config.state: self.scale.decode(shown)}, terms
