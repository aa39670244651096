"""Every task of every simulator as one table; importing it loads no simulator."""

from __future__ import annotations

from nextmove.config import nearest
from nextmove.sim.base import SimulatorError, Task, vector

_CORNERS = [axis + str(i) for i in range(8) for axis in "xy"]

PUSHT = Task(
    name="pusht",
    simulator="gym-pusht",
    instruction="Push the T-shaped block onto the T-shaped target.",
    fps=10,
    max_steps=300,
    unit="px",
    robot_type="pusht",
    features={
        "observation.state": vector(2, ["x", "y"]),
        "observation.environment_state": vector(16, _CORNERS),
        "observation.goal": vector(16, _CORNERS),
        "action": vector(2, ["x", "y"]),
    },
    cameras={"observation.image": (96, 96)},
    make="nextmove.sim.pusht:PushT",
    expert="nextmove.sim.pusht_expert:demonstrate",
    noise=5.0,
)

_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
_ARMS = [f"{side}_{joint}" for side in ("left", "right") for joint in _JOINTS]
_VIEWS = ("top", "angle", "front_close", "left_pillar", "right_pillar", "left_wrist", "right_wrist")


def _aloha(name: str, instruction: str, task: str) -> Task:
    return Task(
        name=name,
        simulator="gym-aloha",
        instruction=instruction,
        fps=50,
        max_steps=400,
        unit="rad",
        robot_type="aloha",
        features={"observation.state": vector(14, _ARMS), "action": vector(14, _ARMS)},
        cameras={f"observation.images.{view}": (480, 640) for view in _VIEWS},
        make="nextmove.sim.aloha:Aloha",
        one_per_process=True,
        settings={"task": task},
    )


ALOHA = (
    _aloha(
        "aloha-transfer-cube",
        "Pick up the cube with the right arm and transfer it to the left arm.",
        "transfer_cube",
    ),
    _aloha("aloha-insertion", "Insert the peg into the socket.", "insertion"),
)

SUITES: dict[str, tuple[Task, ...]] = {"pusht": (PUSHT,), "aloha": ALOHA}
"""Tasks that are judged together, by the name of the suite. A task may belong to several; one alone is its own."""


def find(name: str) -> tuple[Task, ...]:
    """The tasks of a suite, or the one task of this name.

    Raises SimulatorError for a name that is neither, naming what there is.
    """
    tasks = {task.name: (task,) for suite in SUITES.values() for task in suite}
    known = {**tasks, **SUITES}
    if name not in known:
        raise SimulatorError(
            f"task: expected a task or suite of a simulator ({', '.join(known)}), found {name!r}{nearest(name, known)}"
        )
    return known[name]


def task(name: str) -> Task:
    """The one task of this name; raises SimulatorError for an unknown name and for a suite of several."""
    found = find(name)
    if len(found) > 1:
        raise SimulatorError(
            f"task: expected one task, found {name!r}, a suite of {', '.join(one.name for one in found)}"
        )
    return found[0]
