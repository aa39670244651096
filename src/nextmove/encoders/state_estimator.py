"""A state that is measured in training only, estimated from cameras in its place.

A simulator knows where its objects are, a camera sees them. A policy of states (points, frames, scales and all) acts
from cameras when what it would have been told is estimated first (privileged information in training: Chen et al. 2020,
Learning by Cheating; keypoints as the state: Levine et al. 2016).

Shapes: B batch, T observation steps, D width of the state, E of its numbers that are estimated, n rows whose images are
looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.codecs.scaled import Scaled
from nextmove.contracts import Feature, Numbers, Rng, uniform
from nextmove.encoders.camera import Camera, CameraEncoder
from nextmove.encoders.instruction import Instruction, InstructionEncoder
from nextmove.encoders.part import chosen
from nextmove.nn.film import Film
from nextmove.nn.small_resnet import SmallResNet


@dataclass(frozen=True)
class StateEstimator:
    """Which state is estimated, and by what network."""

    state: str = "observation.environment_state"
    numbers: tuple[str, ...] = ()
    """Names or places of those of its numbers that are estimated; the policy is shown the mean in place of the others.
    None: all. What cannot be seen, or tells tasks apart that an instruction should, is better left out."""
    camera: Camera = Camera(backbone=SmallResNet(), keypoints=64)
    words: Instruction | None = None
    """How the instruction is read where the state depends on it, as where the named thing is: it scales and shifts what
    the cameras show (FiLM, Perez et al. 2018). None: it is not read."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of an MLP (ReLU) from what the cameras show to the state."""
    share: float = 0.125
    """Share of a training batch whose images are looked at. The other rows are shown the measured state with the errors
    of these added, so that a policy learns to act on estimates at the price of a few images a step."""

    def build(self, inputs: Mapping[str, Feature]) -> StateEstimatorNetwork:
        """The part; raises ValueError naming a state or camera that is absent."""
        if not 0 < self.share <= 1:
            raise ValueError(f"state_estimator.share: expected a share above 0, at most 1, found {self.share}")
        target = chosen(inputs, (self.state,), "state", "state_estimator")[self.state]
        words = None if self.words is None else self.words.build(inputs)
        return StateEstimatorNetwork(self, self.camera.build(inputs), words, target, self._places(target))

    def _places(self, target: Feature) -> list[int]:
        """Which of the state's numbers are estimated; raises ValueError naming one that there is not."""
        known = {name: place for place, name in enumerate(target.names)} | {str(i): i for i in range(target.width)}
        if lost := next((name for name in self.numbers if name not in known), None):
            found = ", ".join(target.names) or f"{target.width} numbers without names"
            raise ValueError(
                f"state_estimator.numbers: expected numbers of {self.state}, found {lost!r}; it has {found}"
            )
        return sorted({known[name] for name in self.numbers}) or list(range(target.width))


class StateEstimatorNetwork(nn.Module):
    """Observations (B, T, ...) by name -> the same with the estimated state (B, T, D), in its units."""

    places: Tensor

    def __init__(
        self,
        config: StateEstimator,
        camera: CameraEncoder,
        words: InstructionEncoder | None,
        target: Feature,
        places: Sequence[int],
    ) -> None:
        """places: of the state's numbers that are estimated, ascending."""
        super().__init__()
        self.config, self.camera, self.words = config, camera, words
        self.inputs: dict[str, Feature] = camera.inputs | (words.inputs if words else {})
        """What it reads."""
        self.targets = {config.state: target}
        """What it is trained to tell, which is read in training only."""
        layers: list[nn.Module] = []
        self.film = Film(words.width, camera.width) if words else None
        for width, out in pairwise((camera.width, *config.hidden, len(places))):
            layers += [nn.Linear(width, out), nn.ReLU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.scale = Scaled(target.width, name=config.state)
        self.register_buffer("places", torch.tensor(places), persistent=False)

    def fit(self, numbers: Numbers) -> None:
        """Fits the scale on the state of all training windows."""
        self.scale.take(*numbers.observed([self.config.state], 1, self.scale.levels))

    def estimate(self, obs: Mapping[str, Any]) -> Tensor:
        """The scaled numbers that are estimated, (B, T, E)."""
        batch, steps = next(obs[name] for name in self.camera.inputs).shape[:2]
        x: Tensor = self.camera(obs, batch=batch, steps=steps, rng=None)
        if self.words is not None and self.film is not None:
            said = self.words(obs, batch=batch, steps=steps)
            x = self.film(x.flatten(0, 1)[..., None, None], said.flatten(0, 1)).view_as(x)
        y: Tensor = self.mlp(x)
        return y.float()

    def forward(self, obs: Mapping[str, Any]) -> dict[str, Any]:
        """The observations with the estimate in the state's place."""
        return self._shown(obs, self.estimate(obs))

    def _shown(self, obs: Mapping[str, Any], scaled: Tensor) -> dict[str, Any]:
        """The observations with a state of these scaled numbers (B, T, E); the others at 0 are at their mean."""
        whole = scaled.new_zeros((*scaled.shape[:2], self.scale.width)).index_copy(-1, self.places, scaled)
        return {**obs, self.config.state: self.scale.decode(whole)}

    def _told(self, truth: Tensor) -> Tensor:
        """Of the state (B, T, D) the numbers that are estimated, scaled (B, T, E)."""
        return self.scale.encode(truth).index_select(-1, self.places)

    def trained(self, obs: Mapping[str, Any], rng: Rng | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Observations as the policy is trained on them, and the mean absolute error of the scaled estimates.

        With `rng` (training) the first n rows are looked at; all rows are shown the measured state plus the error of
        one of these, drawn with `rng`, the first their own. Without it, every row is shown its estimate.
        """
        truth = obs[self.config.state]
        rows = len(truth) if rng is None else max(1, round(self.config.share * len(truth)))
        seen = self.estimate({name: obs[name][:rows] for name in self.inputs})
        error = seen - self._told(truth[:rows])
        terms = {"estimate": error.abs().mean()}
        if rng is None:
            return self._shown(obs, seen), terms
        whose = (uniform((len(truth),), rng) * rows).long().clamp(max=rows - 1).to(truth.device)
        whose[:rows] = torch.arange(rows, device=truth.device)
        return self._shown(obs, self._told(truth) + error.detach()[whose]), terms
