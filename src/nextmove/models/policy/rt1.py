"""RT-1: one transformer for many tasks, whose actions are classes.

What changed over BC-Z: it sees six frames, each cut down to eight tokens, and a transformer answers with one of 256
bins for each dimension of the action (Brohan et al. 2022).

How it is composed: an EfficientNet whose blocks are conditioned by FiLM on the instruction, `TokenLearner` -> tokens of
six steps -> `Stepwise`, a causal transformer in which nothing that is done sees what else is done -> `Categorical`: all
classes of an action in one call. Each observed step is answered; the last answer is executed.

Deviations: the published code keeps the tokens of earlier frames and a count of them; here the six frames are read anew
at every step, so that the policy keeps no state, and an episode begins with six times its first frame, as the windows
of its training do, where the published code begins with one. The loss is the mean over all classes, which the published
code divides by the number of tokens of a batch. No blocks of the EfficientNet are left out in training, and images are
not shifted. The default is a size that two cores train, with group norm in place of batch norm, an instruction read by
a small transformer over its bytes, and the robot's own state beside the images; `published` has the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nextmove.contracts import Feature, Optim
from nextmove.decoders.categorical import Categorical
from nextmove.encoders import Camera, FilmedCamera, Observation, State
from nextmove.encoders.sentence import Sentence
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import assemble
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.sight import cropped, fitted, own_state
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.nn.efficientnet import EfficientNet
from nextmove.nn.stepwise import Stepwise

TOLD = "observation.natural_language_embedding"
"""The instruction as a vector of 512 numbers by the Universal Sentence Encoder, as the data of RT-1 bring it."""
HALF_TURN, QUARTER_TURN = 3.1415927, 1.5707964
ACTIONS = {
    "terminate_episode": ((0.0, 1.0),) * 3,
    "world_vector": ((-1.0, 1.0),) * 3,
    "rotation_delta": ((-QUARTER_TURN, QUARTER_TURN),) * 3,
    "gripper_closedness_action": ((-1.0, 1.0),),
    "base_displacement_vector": ((-1.0, 1.0),) * 2,
    "base_displacement_vertical_rotation": ((-HALF_TURN, HALF_TURN),),
}
"""What the published robot does, in this order, with the ends of each dimension: which of arm, base and end of the
episode it is about, then metres, radians, and 1 for a closed gripper."""
SMALL = Camera(
    backbone=EfficientNet(0.5, 0.5, "group", 16, head=False, padding="same"), pool="learned", width=128, shared=True
)
"""A network that a CPU trains: 6 x 6 places of 96 px."""
B3 = Camera(resize=(300, 300), whole=False, averaged=False, backbone=EfficientNet(), pool="learned")
"""The published one."""


@dataclass(frozen=True)
class Rt1:
    """Six frames and an instruction to classes of the next action."""

    timing: Timing = Timing(n_obs_steps=6, horizon=6, n_action_steps=1, align="first_observation")
    encoder: Observation = Observation((FilmedCamera(SMALL),))
    actions: ActionSpace = ActionSpace(scaling="min_max", per_step=False, bins=256)
    decoder: Any = field(default_factory=lambda: Categorical(Stepwise(width=128, layers=4, heads=4)))
    optim: Optim = Optim(lr=5e-4, weight_decay=1e-4, batch=16)

    @classmethod
    def published(cls, inputs: Mapping[str, Feature] | None = None) -> Rt1:
        """The paper's sizes, for any robot; instructions by MiniLM where the data bring no vector of theirs."""
        instruction = State((TOLD,), view="plain", scaling="identity", noise=0.0)
        told = inputs is None or TOLD in inputs
        return cls(
            encoder=Observation((FilmedCamera(B3, instruction if told else Sentence()),)),
            decoder=Categorical(Stepwise(embedding=True)),
            optim=Optim(lr=1e-4, weight_decay=0.0, batch=32),
        )

    @classmethod
    def as_trained(cls, actions: Mapping[str, tuple[tuple[float, float], ...]] = ACTIONS) -> Rt1:
        """The published model for the published robot: its own actions, written as it writes them.

        actions: names -> low and high of each dimension, in the order of the robot's action; of `terminate_episode`,
        where it is among them, one is chosen.
        """
        names, ranges = list(actions), [one for ends in actions.values() for one in ends]
        first = [sum(len(actions[other]) for other in names[:i]) for i in range(len(names))]
        choices = [(first[i], len(actions[name])) for i, name in enumerate(names) if name == "terminate_episode"]
        space = ActionSpace(
            bins=256, levels=True, choices=tuple(choices), ranges=tuple(ranges), space="absolute", per_step=False
        )
        return replace(cls.published(), actions=space)

    def seeing(self, inputs: Mapping[str, Feature]) -> Rt1:
        """The same with images at a size that a CPU trains on, beside what the data have of the robot's own state."""
        camera, state = cropped(fitted(SMALL, inputs), inputs), own_state(inputs)
        seen = FilmedCamera(camera)
        return replace(self, encoder=Observation((seen,) if state is None else (seen, state)))

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot; raises ValueError unless each observed step has an action of its own."""
        timing, trunk = self.timing, self.decoder.trunk
        if timing.align != "first_observation" or timing.horizon != timing.n_obs_steps:
            raise ValueError(
                f"timing: expected an action for each observed step (align first_observation, as many of horizon as "
                f"n_obs_steps), found {timing}"
            )
        if isinstance(trunk, Stepwise):
            trunk = replace(trunk, steps=timing.n_obs_steps)
        return assemble(spec, replace(self, decoder=replace(self.decoder, trunk=trunk)))
