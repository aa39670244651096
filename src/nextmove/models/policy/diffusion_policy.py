"""Diffusion Policy: draw a chunk of actions by denoising.

What changed over ACT: the whole distribution of chunks is learnt, not its median given z; every draw is one coherent
way of doing it (Chi et al. 2023).

How it is composed: `Diffusion` (cosine table of 100 steps, noise prediction, ancestral sampling, clip at 1) around the
conditional 1-D U-Net, or the causal transformer with `DiffusionTransformer`. The horizon starts at the first observed
step.

Deviations: widths that train on a CPU (`published()` has the paper's); four actions are executed of each plan, as in
the other chunk policies here, where the paper executes eight; actions in the common representation (relative, where
there are points); the transformer's step passes through a two-layer network, as the U-Net's does. The sampler may be
exchanged after training (`nextmove evaluate RUN --sampler ddim --steps 10`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nextmove.contracts import Feature, Optim
from nextmove.decoders import Diffusion
from nextmove.encoders import Camera, Observation, State
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import DecoderConfig, assemble
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.sight import OWN, WORLD, cameras, cropped, looking, seeing
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.nn import Transformer, UNet1d

TIMING = Timing(n_obs_steps=2, horizon=16, n_action_steps=4, align="first_observation")
# Clipping the predicted actions at 1 needs a space that ends there.
SPACE = ActionSpace(scaling="min_max")


@dataclass(frozen=True)
class DiffusionPolicy:
    """Diffusion Policy with the 1-D U-Net."""

    timing: Timing = TIMING
    encoder: Observation = Observation()
    actions: ActionSpace = SPACE
    decoder: DecoderConfig = field(
        default_factory=lambda: Diffusion(trunk=UNet1d(widths=(64, 128, 256), time_width=128))
    )
    optim: Optim = Optim(lr=5e-4, betas=(0.95, 0.999), weight_decay=1e-6, batch=64)

    @classmethod
    def published(cls, inputs: Mapping[str, Feature] | None = None) -> DiffusionPolicy:
        """Sizes and optimiser of the paper's low-dimensional PushT (65.8 M parameters).

        inputs: with cameras among them, those of its PushT from images (262 M): one ResNet-18 reads them all, cropped.
        """
        sees = inputs is not None and bool(cameras(inputs))
        widths, time, batch = ((512, 1024, 2048), 128, 64) if sees else ((256, 512, 1024), 256, 256)
        return cls(
            timing=replace(TIMING, n_action_steps=8),
            actions=replace(SPACE, space="shown"),
            encoder=_published(inputs) if inputs is not None and sees else Observation(),
            decoder=Diffusion(trunk=UNet1d(widths=widths, time_width=time)),
            optim=Optim(lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, warmup=500, clip=0.0, batch=batch),
        )

    @classmethod
    def lerobot(cls, inputs: Mapping[str, Feature] | None = None) -> DiffusionPolicy:
        """The default's sizes in the form that LeRobot has too (`nextmove export-lerobot`).

        inputs: the robot's and its environment's state, without cameras; with cameras all of them, cropped to seven
        eighths and read by a ResNet-18 each, and the robot's state.
        """
        there = inputs or {}
        sees = bool(cameras(there))
        names = tuple(name for name in (OWN, WORLD[0]) if name in there and not (sees and name != OWN))
        state = State(names, view="plain", scaling="min_max")
        return cls(
            encoder=Observation((state, *([cropped(Camera(), there)] if sees else []))),
            actions=replace(SPACE, space="absolute", per_step=False),
        )

    def seeing(self, inputs: Mapping[str, Feature]) -> DiffusionPolicy:
        """The same through cameras, beside the robot's own state (`sight.seeing`)."""
        return seeing(self, inputs, steps=2)

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot."""
        return assemble(spec, self)


@dataclass(frozen=True)
class DiffusionTransformer:
    """Diffusion Policy with the causal transformer."""

    timing: Timing = TIMING
    encoder: Observation = Observation(tokens=True)
    actions: ActionSpace = SPACE
    decoder: DecoderConfig = field(default_factory=lambda: Diffusion(trunk=Transformer(width=128, layers=4, heads=4)))
    optim: Optim = Optim(lr=1e-3, betas=(0.9, 0.95), weight_decay=1e-3, batch=64)

    @classmethod
    def published(cls, inputs: Mapping[str, Feature] | None = None) -> DiffusionTransformer:
        """Sizes and optimiser of the paper's low-dimensional PushT; with cameras among `inputs`, from images."""
        sees = inputs is not None and bool(cameras(inputs))
        trunk, decay = Transformer(width=256, layers=8, heads=4), 0.1
        if sees:
            trunk, decay = replace(trunk, dropout=0.3), 1e-3
        return cls(
            actions=replace(SPACE, space="shown"),
            timing=replace(TIMING, n_action_steps=8, horizon=10 if sees else TIMING.horizon),
            encoder=_published(inputs, tokens=True) if inputs is not None and sees else Observation(tokens=True),
            decoder=Diffusion(trunk=trunk),
            optim=Optim(
                lr=1e-4, betas=(0.9, 0.95), weight_decay=decay, warmup=1000, clip=0.0, batch=64 if sees else 256
            ),
        )

    def seeing(self, inputs: Mapping[str, Feature]) -> DiffusionTransformer:
        """The same through cameras, beside the robot's own state (`sight.seeing`)."""
        return seeing(self, inputs, steps=2)

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot."""
        return assemble(spec, self)


def _published(inputs: Mapping[str, Feature], tokens: bool = False) -> Observation:
    """The robot's own state and its cameras, cropped to seven eighths, through one ResNet-18 with 32 keypoints."""
    return Observation(looking(cropped(Camera(shared=True), inputs), inputs), tokens=tokens)
