"""ACT: action chunking with transformers.

What changed over BC and LSTM-GMM: a whole chunk of actions at once, and a latent variable z that takes up how this
demonstrator did it, so that the chunk itself may be regressed (Zhao et al. 2023, a conditional VAE).

How it is composed: `Latent` (posterior q(z | actions, state), weight 10 on the KL) around `Regression` (L1) over the
`Detr` transformer. At run time z = 0.

With cameras (`seeing`) each place of their feature maps is a token with its position, behind the latent and the state.

Deviations: chunk and widths for 10 Hz pushing (`published()` has the paper's); the decoder has one layer, which is what
the original code trains (it returns the first layer's output of seven); actions in the common representation (relative,
where there are points) and no temporal ensembling; small feature maps are learnt from nothing, with group norm, where
the paper's network begins with ImageNet's weights and keeps their statistics (`published()`, and `--from backbone=FILE`
for the weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nextmove.contracts import Feature, Optim
from nextmove.decoders import Latent, Regression
from nextmove.encoders import Camera, Observation, State
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import assemble
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.sight import OWN, SMALL, WORLD, cameras, fitted, looking, named
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.nn import ActVaeEncoder, Detr
from nextmove.nn.resnet import ResNet
from nextmove.nn.small_resnet import SmallResNet

LATENT, STATE = 32, -1
"""Widths of the tokens into which the context vector is cut: the latent, and the state, which is the rest of it."""


@dataclass(frozen=True)
class Act:
    """Action chunking transformer, on states or, `seeing`, on cameras."""

    timing: Timing = Timing(n_obs_steps=2, horizon=16, n_action_steps=4)
    encoder: Observation = Observation()
    actions: ActionSpace = ActionSpace(mask_padding=True)
    decoder: Latent = field(
        default_factory=lambda: Latent(
            inner=Regression(trunk=Detr(width=128, heads=4, feedforward=512, parts=(LATENT, STATE)), loss="l1"),
            posterior=ActVaeEncoder(width=128, heads=4, feedforward=512),
            latent=LATENT,
        )
    )
    optim: Optim = Optim(lr=5e-4, betas=(0.9, 0.999), weight_decay=1e-4, batch=64)

    @classmethod
    def published(cls, inputs: Mapping[str, Feature] | None = None) -> Act:
        """Sizes and optimiser of the paper (chunk 100 at 50 Hz, width 512, batch 8, learning rate 1e-5).

        inputs: with cameras among them, the paper's ResNet-18 reads them all, as large as they are.
        """
        camera = Camera(backbone=ResNet(norm="frozen"), pool="tokens", shared=True)
        own = cls(
            timing=Timing(n_obs_steps=1, horizon=100, n_action_steps=100),
            actions=ActionSpace(space="shown", mask_padding=True),
            optim=Optim(lr=1e-5, betas=(0.9, 0.999), weight_decay=1e-4, warmup=0, batch=8),
        )
        return own._with(Detr(), ActVaeEncoder(), camera if inputs and cameras(inputs) else None, inputs or {})

    def seeing(self, inputs: Mapping[str, Feature]) -> Act:
        """The same through cameras, beside the robot's own state, at a size that a CPU trains."""
        # Maps of 6 x 6 from 96 px: finer ones are more tokens than the transformer has time for.
        small = replace(SMALL, backbone=SmallResNet((32, 64, 128, 256)), pool="tokens", width=256)
        camera = fitted(small, inputs)
        own = replace(
            self,
            timing=replace(self.timing, n_obs_steps=1),
            optim=replace(self.optim, lr=3e-4, batch=32),
        )
        trunk = Detr(width=256, heads=8, feedforward=1024)
        return own._with(trunk, ActVaeEncoder(width=128, heads=4, feedforward=512), camera, inputs)

    @classmethod
    def lerobot(cls, inputs: Mapping[str, Feature] | None = None) -> Act:
        """The default's sizes in the form that LeRobot has too (`nextmove export-lerobot`).

        inputs: the robot's and its environment's state, without cameras; with cameras all of them, as large as they
        are, and the robot's state.
        """
        there = inputs or {}
        sees = bool(cameras(there))
        own = cls(
            timing=Timing(n_obs_steps=1, horizon=16, n_action_steps=4),
            actions=ActionSpace(space="absolute", per_step=False, mask_padding=True),
        )
        names = [name for name in (OWN, WORLD[0]) if name in there and not (sees and name != OWN)]
        widths = tuple(there[name].width for name in names) or (STATE,)
        sizes: dict[str, Any] = {"width": 128, "heads": 4, "feedforward": 512}
        camera = Camera(backbone=ResNet(norm="batch"), pool="tokens", width=128, shared=True)
        return replace(
            own,
            encoder=Observation((State(tuple(names), view="plain"), *([named(camera, there)] if sees else []))),
            decoder=Latent(
                Regression(Detr(**sizes, parts=(LATENT, *widths)), loss="l1"),
                ActVaeEncoder(**sizes, state=widths[0]),
                LATENT,
            ),
        )

    def _with(self, trunk: Detr, posterior: ActVaeEncoder, camera: Camera | None, inputs: Mapping[str, Feature]) -> Act:
        """With networks of these sizes and, if there is one, a camera's tokens beside the state."""
        encoder = self.encoder if camera is None else Observation(looking(camera, inputs))
        inner = Regression(replace(trunk, parts=(LATENT, STATE)), loss="l1")
        return replace(self, encoder=encoder, decoder=Latent(inner, posterior, LATENT))

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot."""
        return assemble(spec, self)
