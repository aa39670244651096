"""ALOHA's two tasks in simulation, known without loading it (gym-aloha; Zhao et al. 2023, ACT)."""

from __future__ import annotations

from nextmove.sim.base import Cloud, Task, vector
from nextmove.sim.mujoco_render import SETTINGS

_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
_ARMS = [f"{side}_{joint}" for side in ("left", "right") for joint in _JOINTS]
_VIEWS = ("top", "angle", "front_close", "left_pillar", "right_pillar", "left_wrist", "right_wrist")
_OBJECTS = [f"{which}_{number}" for which in ("first", "second") for number in ("x", "y", "z", "qw", "qx", "qy", "qz")]
"""Poses of cube and nothing (zeros), or of peg and socket."""
_CLOUD = Cloud("angle", (240, 320), (-0.45, 0.3, 0.005), (0.45, 0.75, 0.5))
"""Both hands wherever they hand over, and what lies on the table, whose surface is at 0; seen obliquely from its edge,
by which more sides of things show than from above."""


def _aloha(name: str, instruction: str, task: str) -> Task:
    return Task(
        name=f"aloha/{name}",
        simulator="gym-aloha",
        instruction=instruction,
        fps=50,
        max_steps=400,
        unit="rad",
        robot_type="aloha",
        features={
            "observation.state": vector(14, _ARMS),
            "observation.environment_state": vector(14, _OBJECTS),
            "action": vector(14, _ARMS),
        },
        cameras={f"observation.images.{view}": (480, 640) for view in _VIEWS},
        depth=True,
        cloud=_CLOUD,
        make="nextmove.sim.aloha:Aloha",
        expert="nextmove.sim.aloha_expert:demonstrate",
        noise=0.02,
        one_per_process=True,
        packages=("mujoco", "dm-control"),
        rendering=SETTINGS,
        settings={"task": task},
    )


ALOHA = (
    _aloha(
        "transfer-cube",
        "Pick up the cube with the right arm and transfer it to the left arm.",
        "transfer_cube",
    ),
    _aloha("insertion", "Insert the peg into the socket.", "insertion"),
)
