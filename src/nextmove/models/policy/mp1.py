"""MP1: FlowPolicy with the average velocity of a path in place of consistency along it.

What changed over FlowPolicy: no segments and no pairs of points; the network reads two times and learns the mean
velocity between them from the MeanFlow identity, against its own mean (guidance inside the target), and rows of a batch
are driven apart inside the U-Net (Sheng et al. 2026).

How it is composed: as FlowPolicy, with `MeanFlow` around the U-Net: guidance 2, dispersive loss 0.5, a row's mean
square error d weighted by 1 / sqrt(d + 0.001).

Deviations: the network reads t and the length of the step where the authors' reads both its ends; a U-Net that a CPU
trains (`published()` has the paper's).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nextmove.contracts import Optim
from nextmove.decoders import MeanFlow
from nextmove.encoders import Observation
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import DecoderConfig, assemble
from nextmove.models.policy.flow_policy_3d import OPTIM, PAPER, PUBLISHED, SEEN, SPACE, TIMING, TRUNK
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.spec import PolicySpec, Timing

RULE = MeanFlow(TRUNK, guidance=2.0, dispersive=0.5, per_entry=True, power=0.5, floor=1e-3)


@dataclass(frozen=True)
class Mp1:
    """MeanFlow over action chunks, seen in point clouds."""

    timing: Timing = TIMING
    encoder: Observation = SEEN
    actions: ActionSpace = SPACE
    decoder: DecoderConfig = field(default_factory=lambda: RULE)
    optim: Optim = OPTIM

    @classmethod
    def published(cls) -> Mp1:
        """Sizes and optimiser of the paper."""
        return cls(decoder=replace(RULE, trunk=PUBLISHED), optim=PAPER)

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot."""
        return assemble(spec, self)
