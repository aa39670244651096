"""ACT: action chunking with transformers.

What changed over BC and LSTM-GMM: a whole chunk of actions at once, and a latent variable z that takes up how this
demonstrator did it, so that the chunk itself may be regressed (Zhao et al. 2023, a conditional VAE).

How it is composed: `Latent` (posterior q(z | actions, state), weight 10 on the KL) around `Regression` (L1) over the
`Detr` transformer. At run time z = 0.

Deviations: state observations only, chunk and widths for 10 Hz pushing (`published()` has the paper's); the decoder has
one layer, which is what the original code trains (it returns the first layer's output of seven); actions in the common
representation (relative, where there are points) and no temporal ensembling.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nextmove.contracts import Optim
from nextmove.decoders import Latent, Regression
from nextmove.encoders import Observation
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import assemble
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.nn import ActVaeEncoder, Detr

LATENT, STATE = 32, -1
"""Widths of the tokens into which the context vector is cut: the latent, and the state, which is the rest of it."""


@dataclass(frozen=True)
class Act:
    """Action chunking transformer on state observations."""

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
    def published(cls) -> Act:
        """Sizes and optimiser of the paper (chunk 100 at 50 Hz, width 512, batch 8, learning rate 1e-5)."""
        return cls(
            timing=Timing(n_obs_steps=1, horizon=100, n_action_steps=100),
            actions=ActionSpace(space="shown", mask_padding=True),
            decoder=Latent(inner=Regression(trunk=Detr(parts=(LATENT, STATE)), loss="l1"), posterior=ActVaeEncoder()),
            optim=Optim(lr=1e-5, betas=(0.9, 0.999), weight_decay=1e-4, warmup=0, batch=8),
        )

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot."""
        return assemble(spec, self)
