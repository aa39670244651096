"""Action tokens: a language model whose tokens are actions.

What changed over Diffusion and Flow Policy: each action dimension is cut into 256 bins and the chunk is written one
token after another, each given all before it, the likeliest each time, as in RT-2 (Zitkovich et al. 2023) and OpenVLA
(Kim et al. 2024). RT-1 (Brohan et al. 2022) has the bins and predicts an action's side by side.

How it is composed: `Actions` with `Bins` -> `Autoregressive` around the causal `Gpt`; what is observed is its prefix.

Deviations: a chunk of several actions in place of a single one, and no language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nextmove.contracts import Feature, Optim
from nextmove.decoders import Autoregressive
from nextmove.decoders.sampling import Sampling
from nextmove.encoders import Observation
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import DecoderConfig, assemble
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.sight import seeing
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.nn import Gpt


@dataclass(frozen=True)
class ActionTokens:
    """Autoregressive policy over 256 bins a dimension."""

    timing: Timing = Timing()
    encoder: Observation = Observation()
    actions: ActionSpace = ActionSpace(scaling="min_max", bins=256)
    decoder: DecoderConfig = field(
        default_factory=lambda: Autoregressive(
            trunk=Gpt(width=128, layers=4, heads=4), classes=256, sampling=Sampling(temperature=0.0)
        )
    )
    optim: Optim = Optim(lr=1e-3, weight_decay=0.01, batch=64)

    def seeing(self, inputs: Mapping[str, Feature]) -> ActionTokens:
        """The same through cameras, beside the robot's own state (`sight.seeing`)."""
        return seeing(self, inputs)

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot."""
        return assemble(spec, self)
