"""FlowPolicy: one network call from a point cloud to a chunk of actions.

What changed over Flow Policy: it sees points in place of states or images (the encoder of 3D Diffusion Policy, Ze et
al. 2024), and every point of a path is trained to name the end of its segment, so that one step suffices (consistency
flow matching; on robots Zhang et al. 2025).

How it is composed: 512 points and the robot's state of each of two steps, each through a small network -> `Consistency`
(two segments, both calls with gradient) around the 1-D U-Net. `published()` has the paper's widths; `interop` loads the
authors' weights into them.

Deviations: a U-Net that a CPU trains, a fiftieth of the published one, and five times the learning rate in batches of
half the size, for the steps are fewer; a dimension that is constant in the data is encoded as 0, as everywhere here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nextmove.contracts import Optim
from nextmove.decoders import Consistency
from nextmove.encoders import Cloud, Observation, State
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import DecoderConfig, assemble
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.nn import UNet1d

# The first of four planned actions belongs to the earlier of two observed steps: three are left.
TIMING = Timing(n_obs_steps=2, horizon=4, n_action_steps=3, align="first_observation")
STATE = State(("observation.state",), view="plain", scaling="min_max", noise=0.0, hidden=(64, 64))
SEEN = Observation((Cloud(), STATE))
SPACE = ActionSpace(scaling="min_max", per_step=False, space="absolute")
TRUNK = UNet1d(widths=(64, 128, 256), time_width=64)
PUBLISHED = replace(TRUNK, widths=(512, 1024, 2048), time_width=128)
PAPER = Optim(lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, warmup=500, batch=128, clip=0.0)
OPTIM = replace(PAPER, lr=5e-4, warmup=100, batch=64, clip=1.0)
RULE = Consistency(
    TRUNK, segments=2, eps=1e-2, delta=1e-2, boundary=1.0, alpha=1e-5, time_scale=99.0, stop_gradient=False, steps=1
)


@dataclass(frozen=True)
class FlowPolicy3d:
    """Consistency flow matching over action chunks, seen in point clouds."""

    timing: Timing = TIMING
    encoder: Observation = SEEN
    actions: ActionSpace = SPACE
    decoder: DecoderConfig = field(default_factory=lambda: RULE)
    optim: Optim = OPTIM

    @classmethod
    def published(cls) -> FlowPolicy3d:
        """Sizes and optimiser of the paper (255 M parameters in the U-Net)."""
        return cls(decoder=replace(RULE, trunk=PUBLISHED), optim=PAPER)

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot."""
        return assemble(spec, self)
