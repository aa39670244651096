"""Behaviour cloning: regress the next action on what is observed.

Where it stands: the first imitation policy (Pomerleau 1988; the MLP of robomimic, Mandlekar et al. 2021). It predicts
the mean of what demonstrators did, which is an action nobody took wherever they disagree.

How it is composed: `Observation` -> `PlainMlp` -> `Regression`. One step ahead, executed at once.

Deviations: the observation may hold one-step velocities, so that two frames are read instead of one; no tanh at the
output, since actions are scaled to unit spread and not to [-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nextmove.contracts import Feature, Optim
from nextmove.decoders import Regression
from nextmove.encoders import Observation
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import DecoderConfig, assemble
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.sight import seeing
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.nn import PlainMlp


@dataclass(frozen=True)
class BC:
    """Behaviour cloning with an MLP."""

    timing: Timing = Timing(n_obs_steps=2, horizon=1, n_action_steps=1)
    encoder: Observation = Observation()
    actions: ActionSpace = ActionSpace()
    decoder: DecoderConfig = field(default_factory=lambda: Regression(trunk=PlainMlp(), loss="mse"))
    optim: Optim = Optim(lr=1e-3, weight_decay=1e-4)

    def seeing(self, inputs: Mapping[str, Feature]) -> BC:
        """The same through cameras, beside the robot's own state (`sight.seeing`)."""
        return seeing(self, inputs)

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot."""
        return assemble(spec, self)
