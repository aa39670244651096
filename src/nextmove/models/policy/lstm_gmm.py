"""LSTM-GMM: a recurrent policy whose output is a mixture of Gaussians.

What changed over BC: memory over ten observed steps, and a mixture of five modes in place of one mean, so that two
ways of doing a task can both be kept (BC-RNN-GMM of robomimic, Mandlekar et al. 2021).

How it is composed: observations as tokens -> `Lstm` -> `Mixture`. Each observed step predicts its own action; the last
one is executed. In evaluation the modes' spread is 1e-4 and the mode is drawn.

Deviations: robomimic carries the hidden state for ten steps and then resets it; here the last ten observations are
read anew at every step, so that the policy keeps no state. The least spread of a component is 0.05 where robomimic has
1e-4: there the first component that turns sharp takes all data and the modes merge. Means are not bounded by tanh.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nextmove.contracts import Feature, Optim
from nextmove.decoders import Mixture
from nextmove.encoders import Observation
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import DecoderConfig, assemble
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.sight import seeing
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.nn import Lstm


@dataclass(frozen=True)
class LstmGmm:
    """LSTM over the observed steps with a mixture of Gaussians at each."""

    timing: Timing = Timing(n_obs_steps=10, horizon=10, n_action_steps=1, align="first_observation")
    encoder: Observation = Observation(tokens=True)
    actions: ActionSpace = ActionSpace(per_step=False)
    decoder: DecoderConfig = field(default_factory=lambda: Mixture(trunk=Lstm(), min_std=0.05))
    optim: Optim = Optim(lr=1e-3, weight_decay=0.0, batch=64)

    def seeing(self, inputs: Mapping[str, Feature]) -> LstmGmm:
        """The same through cameras, beside the robot's own state (`sight.seeing`)."""
        return seeing(self, inputs, steps=10, batch=16)

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot."""
        return assemble(spec, self)
