"""MeanFlow policy: one network call by learning the average velocity of the whole path.

What changed over the consistency flow: no pair of neighbouring points and no segments; the network reads two times
and learns the mean velocity between them from an identity that holds on every path (Geng et al. 2025; on robots MP1,
Sheng et al. 2026).

How it is composed: `MeanFlow` around the residual `Mlp`.

Deviations: no dispersive loss and no guidance (MP1 has both).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nextmove.contracts import Feature, Optim
from nextmove.decoders import MeanFlow
from nextmove.encoders import Observation
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import DecoderConfig, assemble
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.sight import seeing
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.nn import Mlp


@dataclass(frozen=True)
class MeanFlowPolicy:
    """MeanFlow over action chunks, one step."""

    timing: Timing = Timing()
    encoder: Observation = Observation()
    actions: ActionSpace = ActionSpace()
    decoder: DecoderConfig = field(default_factory=lambda: MeanFlow(trunk=Mlp(dropout=0.1)))
    optim: Optim = Optim(lr=1e-3, weight_decay=1e-4)

    def seeing(self, inputs: Mapping[str, Feature]) -> MeanFlowPolicy:
        """The same through cameras, beside the robot's own state (`sight.seeing`)."""
        return seeing(self, inputs)

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot."""
        return assemble(spec, self)
