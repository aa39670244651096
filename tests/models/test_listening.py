"""Every vision-language-action system learns a task from scratch that has to be seen and heard (slow tier).

With another scene's instruction about half of the instructions change, and with them the motion that a policy which
listens plans: no more than about half of its motions are right then.
"""

from __future__ import annotations

import pytest
import torch
from tests.models.listening import CAMERA, TASKS, TINY, right, scenes, trained

from nextmove.contracts import TASK, seeded
from nextmove.models.policy import Timing
from nextmove.systems import built

SEEN = 0.9
"""Share of right motions on new scenes, at least."""
DEAF = 0.7
"""The same with other scenes' instructions, at most: half, and as much again as 64 scenes vary by."""


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_it_learns_to_look_and_to_listen(name: str) -> None:
    policy = trained(name)
    assert right(policy) >= SEEN
    assert right(policy, shuffled=True) <= DEAF


def test_every_system_has_a_tiny_form() -> None:
    assert set(TINY) == {system.name for system in built("vision-language-action")}


def test_the_instruction_alone_tells_the_motion_of_a_picture() -> None:
    batch = scenes(256, Timing(1, 4, 4), seeded(0))
    # Where the red square lies, its mean column says.
    red = (batch[CAMERA][:, 0, :, :, 0].float() - batch[CAMERA][:, 0, :, :, 2].float()).clamp(min=0).sum(1)
    column = (red * torch.arange(red.shape[1])).sum(1) / red.sum(1)
    right_of_middle = column > red.shape[1] / 2
    told = torch.tensor([TASKS.index(text) for text in batch[TASK]])
    assert torch.equal(batch["side"] > 0, right_of_middle == (told == 0))
    for known in (right_of_middle, told == 0):
        for value in (True, False):
            assert 0.35 < float((batch["side"][known == value] > 0).float().mean()) < 0.65
    assert torch.equal(batch["action"][:, -1, 0], batch["side"])
