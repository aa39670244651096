"""A self-consistent one-step flow on point clouds, in the manner of OFP.

What changed over MP1: no derivative of the network; a step over any part of the path is taught by two steps over its
parts, cut at random, and the shortest steps by the data (self-distillation from scratch, One-step Flow Policy, Li et
al. 2026; shortcut models, Frans et al. 2024, have the same at powers of two).

How it is composed: as FlowPolicy, with `MeanFlow` in its rule `two_steps` around the U-Net, guidance inside the target
as in MP1.

Deviations: plans start from noise; OFP's warm start from the plan before would be a state of the policy, and a policy
here keeps none. OFP's self-guidance is MP1's. The teacher is the network itself, without gradient. Only OFP's abstract
was at hand, so everything it leaves open is chosen here.
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

RULE = MeanFlow(TRUNK, rule="two_steps", guidance=1.5, per_entry=True, power=0.5, floor=1e-3)


@dataclass(frozen=True)
class SelfConsistentPolicy:
    """A self-consistent flow over action chunks, seen in point clouds."""

    timing: Timing = TIMING
    encoder: Observation = SEEN
    actions: ActionSpace = SPACE
    decoder: DecoderConfig = field(default_factory=lambda: RULE)
    optim: Optim = OPTIM

    @classmethod
    def published(cls) -> SelfConsistentPolicy:
        """The U-Net and optimiser that FlowPolicy and MP1 published."""
        return cls(decoder=replace(RULE, trunk=PUBLISHED), optim=PAPER)

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot."""
        return assemble(spec, self)
