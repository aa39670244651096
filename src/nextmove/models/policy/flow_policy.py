"""Flow Policy: draw a chunk of actions by following a velocity field for a few steps.

What changed over Diffusion Policy: a straight path from noise to the chunk and its velocity as the target (flow
matching, Lipman et al. 2023; for robots Black et al. 2024), so that ten Euler steps, four or one replace a hundred.

How it is composed: `Flow` around the residual `Mlp`; `--decoder` and `--trunk` exchange either.

Where what is: the loss is `DiffusionDecoder.loss_at`, its time and noise `DiffusionDecoder._draws` (formulas in
`Flow`, decoders/diffusion.py); actions are scaled by `Scaled.encode` (codecs/scaled.py), with one mean and one
deviation for each step of the horizon, observations by the same in `StateEncoder.forward` (encoders/state.py).

Deviations: no pretrained backbone; the trunk is an MLP over the flattened chunk, small enough that a
plan of ten steps takes milliseconds. Nothing is dropped in training (docs/results.md, "Dropout by
number of demonstrations", says where that is right and where long training wants `dropout=0.1`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nextmove.contracts import Feature, Optim
from nextmove.decoders import Flow
from nextmove.encoders import Observation
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import DecoderConfig, assemble
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.sight import seeing
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.nn import Mlp


@dataclass(frozen=True)
class FlowPolicy:
    """Flow matching over action chunks."""

    timing: Timing = Timing()
    encoder: Observation = Observation()
    actions: ActionSpace = ActionSpace()
    decoder: DecoderConfig = field(default_factory=lambda: Flow(trunk=Mlp()))
    optim: Optim = Optim(lr=1.5e-3, weight_decay=1e-4)

    def seeing(self, inputs: Mapping[str, Feature]) -> FlowPolicy:
        """The same through cameras, beside the robot's own state (`sight.seeing`)."""
        return seeing(self, inputs)

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot."""
        return assemble(spec, self)
