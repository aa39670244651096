"""A flow policy that looks at a state, a camera and a point cloud, and what it is shown."""

from __future__ import annotations

from typing import Any

import torch

from nextmove.contracts import Feature, normal, seeded, uniform
from nextmove.decoders import Flow
from nextmove.encoders import Observation
from nextmove.encoders.camera import Camera
from nextmove.encoders.cloud import Cloud
from nextmove.encoders.state import State
from nextmove.models.policy import Policy, PolicySpec, Timing
from nextmove.models.policy.flow_policy import FlowPolicy
from nextmove.nn import Mlp
from nextmove.nn.resnet import ResNet
from nextmove.nn.small_resnet import SmallResNet

INPUTS = {
    "observation.state": Feature("state", (2,)),
    "observation.images.top": Feature("image", (48, 40, 3)),
    "observation.cloud": Feature("points", (5, 3)),
}


SMALL = SmallResNet(widths=(16, 32))


def seeing(
    *, fitted: bool = True, resize: tuple[int, int] | None = None, backbone: ResNet | SmallResNet = SMALL
) -> Policy:
    torch.manual_seed(0)
    recipe = FlowPolicy(
        timing=Timing(horizon=4, n_action_steps=2),
        encoder=Observation((State(), Camera(backbone=backbone, resize=resize, crop=(40, 34), keypoints=4), Cloud())),
        decoder=Flow(trunk=Mlp(width=32, depth=2, time_width=16)),
    )
    policy = recipe.build(PolicySpec(INPUTS, action=2, fps=10.0))
    if fitted:
        policy.fit([seen(16)])
    return policy


def seen(count: int) -> dict[str, Any]:
    """Observations and actions of `count` rows."""
    picture = (uniform((count, 2, 48, 40, 3), seeded(1)) * 255).to(torch.uint8)
    cloud, state = normal((count, 2, 5, 3), seeded(2)), normal((count, 2, 2), seeded(3))
    batch = dict(zip(INPUTS, (state, picture, cloud), strict=True))
    return {**batch, "action": normal((count, 4, 2), seeded(4)), "action_is_pad": torch.zeros(count, 4).bool()}
