"""Observations to a context: the features of the parts are joined step by step, as one vector or as one token a step.

Parts that show tokens of their own (a camera's places) are joined one behind the other, beside the others' vector.
Shapes: B batch, T observation steps, S tokens, W width of what all parts show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, Feature, Numbers, Rng
from nextmove.encoders.camera import Camera
from nextmove.encoders.cloud import Cloud
from nextmove.encoders.filmed_camera import FilmedCamera
from nextmove.encoders.instruction import Instruction
from nextmove.encoders.part import Part, TokenPart
from nextmove.encoders.planner import Planner
from nextmove.encoders.sentence import Sentence
from nextmove.encoders.state import State, StateEncoder
from nextmove.encoders.state_estimator import StateEstimator
from nextmove.encoders.views import Points


@dataclass(frozen=True)
class Observation:
    """What a policy looks at: parts in the order in which each step shows them."""

    parts: tuple[State | Camera | FilmedCamera | Cloud | Instruction | Sentence, ...] = (State(),)
    tokens: bool = False
    """Each observed step is a token, in place of one vector of all steps."""
    estimator: StateEstimator | None = None
    """Estimates a state from cameras before anything else looks at it; none: states are measured."""
    planner: Planner | None = None
    """Writes the next sub-task in words, read behind the instruction, before actions are planned; none: no words."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("encoder.parts: expected at least one, found none")

    def points(self, inputs: Mapping[str, Feature]) -> State | None:
        """The part that shows points seen from the robot, if one does."""
        resolved = (part.resolve(inputs) for part in self.parts if isinstance(part, State))
        return next((part for part in resolved if part.view == "points"), None)

    def build(self, inputs: Mapping[str, Feature], *, steps: int, along: bool = False) -> ObservationEncoder:
        """The encoder of the last `steps` observations; `along`: points are shown in the object's frame.

        Raises ValueError naming an input that a part needs and that is absent, with those present.
        """
        built: list[Any] = [
            p.build(inputs, along=along) if isinstance(p, State) else p.build(inputs) for p in self.parts
        ]
        # The points' velocities hold what earlier steps would add.
        seen = any(isinstance(part, StateEncoder) and isinstance(part.view, Points) for part in built)
        own = [part for part in built if isinstance(part, TokenPart)]
        if own and self.tokens:
            raise ValueError("encoder.tokens: expected false beside a camera whose places are tokens, found true")
        if len({part.width for part in own}) > 1:
            raise ValueError(f"camera.width: expected one for all tokens, found {[part.width for part in own]}")
        return ObservationEncoder(built, steps=1 if seen and not self.tokens else steps, tokens=self.tokens)


class ObservationEncoder(nn.Module):
    """Observations (B, T, ...) by name -> Context with a vector (B, steps W) or tokens (B, steps, W).

    With parts that show tokens of their own both: the vector of the other parts, then the tokens (B, S, W) of these in
    the parts' order, with positions.
    """

    RENAMED = dict.fromkeys((1, 2), ((r"^scale\.", "parts.0.scale."),))
    """Names in saved models of formats in which there was one part."""

    def __init__(self, parts: Sequence[nn.Module], *, steps: int, tokens: bool = False) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.steps, self.tokens = steps, tokens

    def _parts(self) -> Sequence[Part]:
        return self.parts  # type: ignore[return-value]  # a ModuleList of them

    @property
    def inputs(self) -> dict[str, Feature]:
        """What it reads, in the parts' order."""
        return {name: feature for part in self._parts() for name, feature in part.inputs.items()}

    @property
    def spec(self) -> ContextSpec:
        """What networks built on this encoder may rely on."""
        apart = [part for part in self._parts() if isinstance(part, TokenPart)]
        width = sum(part.width for part in self._parts() if part not in apart)
        if self.tokens:
            return ContextSpec(token=width, tokens=self.steps)
        count = sum(part.count(self.steps) for part in apart)
        return ContextSpec(width * self.steps, apart[0].width if apart else 0, count, positions=bool(apart))

    def fit(self, numbers: Numbers) -> None:
        """Fits the statistics of every part."""
        for part in self._parts():
            part.fit(numbers, self.steps)

    def forward(self, inputs: Mapping[str, Any], *, batch: int, rng: Rng | None = None) -> Context:
        """The context; with `rng` (training) the parts draw their noise and crops from it, in order."""
        joined: list[Tensor] = []
        tokens: list[Tensor] = []
        positions: list[Tensor] = []
        for part in self._parts():
            shown = part(inputs, batch=batch, steps=self.steps, rng=rng)
            if isinstance(part, TokenPart):
                tokens.append(shown)
                positions.append(part.positions(self.steps))
            else:
                joined.append(shown)
        x = torch.cat(joined, -1) if joined else None
        if not tokens:
            assert x is not None
            return Context(batch, tokens=x) if self.tokens else Context(batch, vector=x.flatten(1))
        where = torch.cat(positions).expand(batch, -1, -1)
        return Context(batch, None if x is None else x.flatten(1), torch.cat(tokens, 1), positions=where)
