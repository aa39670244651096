"""BC-Z: behavioural cloning from images and an instruction.

What changed over BC: it sees, and one network does many tasks, since the instruction scales and shifts what the
camera's network finds (Jang et al. 2021).

How it is composed: a ResNet-18 whose blocks are conditioned by FiLM on the instruction, beside the robot's own state ->
`Regression` over an MLP: ten actions at once.

Deviations: the instruction is read by a small transformer over its bytes that is trained along, where BC-Z has a frozen
sentence encoder (or a video of a person); group norm in place of batch norm, since the averaged weights are judged; L1
in place of Huber; actions relative to the state where it has their names, else as the data have them; four of the ten
are executed, as in the other chunk policies here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nextmove.contracts import Feature, Optim
from nextmove.decoders import Regression
from nextmove.encoders import FilmedCamera, Observation, State
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import DecoderConfig, assemble
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.sight import fitted, own_state
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.nn import PlainMlp


@dataclass(frozen=True)
class BcZ:
    """Cameras conditioned on an instruction, and the robot's state, to a chunk of actions."""

    timing: Timing = Timing(n_obs_steps=1, horizon=10, n_action_steps=4)
    encoder: Observation = Observation((FilmedCamera(), State(("observation.state",), view="plain")))
    actions: ActionSpace = ActionSpace()
    decoder: DecoderConfig = field(default_factory=lambda: Regression(trunk=PlainMlp(widths=(256, 256)), loss="l1"))
    optim: Optim = Optim(lr=3e-4, weight_decay=1e-4, batch=32)

    def seeing(self, inputs: Mapping[str, Feature]) -> BcZ:
        """The same with images at a size that a CPU trains on, beside what the data have of the robot's own state."""
        camera, state = FilmedCamera(), own_state(inputs)
        camera = replace(camera, camera=fitted(camera.camera, inputs))
        return replace(self, encoder=Observation((camera,) if state is None else (camera, state)))

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot."""
        return assemble(spec, self)
