"""Consistency flow policy: one network call to a chunk of actions.

What changed over Flow Policy: every point of a path is trained to name the same end (consistency flow matching, Yang
et al. 2024; on robots FlowPolicy, Zhang et al. 2025), so that one step suffices.

How it is composed: `Consistency` around the residual `Mlp`.

Deviations: one segment and a target without gradient. FlowPolicy trains two segments and takes one step over both,
which shrinks the spread of an exact model's samples to a quarter; the system `flow-policy-3d` is as published, and
the authors' weights load into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nextmove.contracts import Feature, Optim
from nextmove.decoders import Consistency
from nextmove.encoders import Observation
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import DecoderConfig, assemble
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.sight import seeing
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.nn import Mlp


@dataclass(frozen=True)
class ConsistencyPolicy:
    """Consistency flow matching over action chunks, one step."""

    timing: Timing = Timing()
    encoder: Observation = Observation()
    actions: ActionSpace = ActionSpace()
    decoder: DecoderConfig = field(default_factory=lambda: Consistency(trunk=Mlp(dropout=0.1)))
    optim: Optim = Optim(lr=1e-3, weight_decay=1e-4)

    def seeing(self, inputs: Mapping[str, Feature]) -> ConsistencyPolicy:
        """The same through cameras, beside the robot's own state (`sight.seeing`)."""
        return seeing(self, inputs)

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot."""
        return assemble(spec, self)
