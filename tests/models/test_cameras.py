"""Policies that read cameras in a named order: a number of cameras that is not theirs is an error that names one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from nextmove.contracts import TASK, Feature, Rows, seeded
from nextmove.models.policy import PolicySpec
from nextmove.systems import find

TOP, WRIST, SIDE, OWN = (
    "observation.images.top",
    "observation.images.wrist",
    "observation.images.side",
    "observation.state",
)
NAMES = ("openvla", "openvla-oft", "rt2", "pi0", "pi05", "pi0-fast", "smolvla")


def spec(*cameras: str) -> PolicySpec:
    """A robot with these cameras."""
    images = {name: Feature("image", (32, 32, 3)) for name in cameras}
    return PolicySpec({**images, OWN: Feature("state", (4,)), TASK: Feature("text")}, 4, 10)


def named(system: str, *cameras: str) -> Any:
    """The system's recipe for two cameras, which reads those named."""
    recipe = find(system).load()().seeing(spec(TOP, WRIST).inputs)
    return replace(recipe, encoder=replace(recipe.encoder, cameras=cameras))


def observed(*cameras: str) -> dict[str, Any]:
    """One row of what a robot with these cameras shows."""
    images = {name: torch.zeros(1, 1, 32, 32, 3, dtype=torch.uint8) for name in cameras}
    return {**images, OWN: torch.zeros(1, 1, 4), TASK: ["push"]}


@pytest.mark.parametrize("system", NAMES)
def test_a_robot_with_fewer_cameras_than_are_read_is_named_when_the_policy_is_built(system: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=f"camera: expected '{WRIST}'.*found {TOP} "):
        named(system, TOP, WRIST).build(spec(TOP))


@pytest.mark.parametrize("system", NAMES)
def test_what_is_shown_has_the_cameras_that_are_read(system: str) -> None:
    with torch.device("meta"):
        policy = named(system, WRIST, TOP).build(spec(TOP, WRIST, SIDE))
    # In the order of the recipe; another camera of the robot's is not read, whoever shows it.
    assert policy.encoder.cameras == [WRIST, TOP]
    assert SIDE not in policy.inputs
    for shown in ((TOP,), (TOP, SIDE), (WRIST,)):
        absent = WRIST if WRIST not in shown else TOP
        with pytest.raises(ValueError, match=f"{absent}.*found .*{shown[0]}"):
            policy.act(observed(*shown), rng=Rows([seeded(0)]))
