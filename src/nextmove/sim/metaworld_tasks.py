"""Meta-World's 50 tasks of one arm as a table: names, instructions, and how hard they are to learn.

Difficulties are those of Seo et al. 2022 (Masked World Models for Visual Control), by which success is reported.
"""

from __future__ import annotations

from nextmove.sim.base import Cloud, Task, vector
from nextmove.sim.mujoco_render import SETTINGS

INSTRUCTIONS = {
    "easy": {
        "button-press": "Push in the button on the front of the box.",
        "button-press-topdown": "Press the button on top of the box down.",
        "button-press-topdown-wall": "Press the button on top of the box behind the wall down.",
        "button-press-wall": "Reach over the wall and push in the button behind it.",
        "coffee-button": "Press the button of the coffee machine.",
        "dial-turn": "Turn the dial.",
        "door-close": "Close the door.",
        "door-lock": "Lock the door by turning its lock clockwise.",
        "door-open": "Open the door.",
        "door-unlock": "Unlock the door by turning its lock counterclockwise.",
        "drawer-close": "Close the drawer.",
        "drawer-open": "Open the drawer.",
        "faucet-close": "Turn the faucet's handle clockwise.",
        "faucet-open": "Turn the faucet's handle counterclockwise.",
        "handle-press": "Press the handle in front of you down.",
        "handle-press-side": "Press the handle at your side down.",
        "handle-pull": "Pull the handle in front of you up.",
        "handle-pull-side": "Pull the handle at your side up.",
        "lever-pull": "Pull the lever up.",
        "plate-slide": "Slide the plate forwards into the goal.",
        "plate-slide-back": "Slide the plate back out of the goal.",
        "plate-slide-back-side": "Slide the plate sideways out of the goal.",
        "plate-slide-side": "Slide the plate sideways into the goal.",
        "reach": "Move the gripper to the marked point.",
        "reach-wall": "Move the gripper around the wall to the marked point.",
        "window-close": "Close the window.",
        "window-open": "Open the window.",
        "peg-unplug-side": "Pull the peg out of the box.",
    },
    "medium": {
        "basketball": "Put the basketball through the hoop.",
        "bin-picking": "Move the block from one bin to the other.",
        "box-close": "Put the lid on the box.",
        "coffee-pull": "Pull the mug away from the coffee machine.",
        "coffee-push": "Push the mug under the coffee machine.",
        "hammer": "Hit the nail with the hammer.",
        "peg-insert-side": "Insert the peg into the hole in the side of the box.",
        "push-wall": "Push the puck around the wall to the marked point.",
        "soccer": "Kick the ball into the goal.",
        "sweep": "Sweep the block off the table.",
        "sweep-into": "Sweep the block into the hole.",
    },
    "hard": {
        "assembly": "Pick up the ring by its handle and put it over the peg.",
        "hand-insert": "Put the block into the hole.",
        "pick-out-of-hole": "Pick the block out of the hole and lift it to the marked point.",
        "pick-place": "Pick up the puck and hold it at the marked point.",
        "push": "Push the puck forwards to the marked point.",
        "push-back": "Pull the block back to the marked point.",
    },
    "very-hard": {
        "shelf-place": "Put the block on the shelf.",
        "disassemble": "Lift the ring off the peg.",
        "stick-pull": "Pull the thermos with the stick.",
        "stick-push": "Push the thermos with the stick.",
        "pick-place-wall": "Pick up the puck and carry it over the wall to the marked point.",
    },
}
"""What is to be done, by difficulty and task."""

_TABLES = {"sweep-into": 0.05, "hand-insert": 0.05, "pick-out-of-hole": 0.054}
"""Height in m of those tables that have a hole; the others are at 0."""

_OBJECT = [f"object{i}_{part}" for i in (1, 2) for part in ("x", "y", "z", "qx", "qy", "qz", "qw")]
_HAND = ["hand_x", "hand_y", "hand_z", "gripper_opening"]
_SCENE = [*_OBJECT, *(f"previous_{name}" for name in (*_HAND, *_OBJECT)), "goal_x", "goal_y", "goal_z"]

FEATURES = {
    "observation.state": vector(4, _HAND),
    "observation.environment_state": vector(35, _SCENE),
    "action": vector(4, ["move_x", "move_y", "move_z", "gripper_closing"]),
}
"""Of all 50 tasks. What the robot knows of itself, apart from what it has to see; together Meta-World's 39 numbers."""

CAMERAS = {
    f"observation.images.{view}": (128, 128)
    for view in ("corner2", "corner", "corner3", "topview", "behindGripper", "gripperPOV")
}


def _task(name: str, instruction: str) -> Task:
    return Task(
        name=f"metaworld/{name}",
        simulator="metaworld",
        instruction=instruction,
        fps=80,
        max_steps=500,
        unit="cm",
        robot_type="sawyer",
        features=FEATURES,
        cameras=CAMERAS,
        depth=True,
        cloud=Cloud("corner4", (256, 256), (-0.45, 0.35, 0.005), (0.45, 0.955, 0.5), _TABLES.get(name, 0.0)),
        make="nextmove.sim.metaworld:MetaWorld",
        expert="nextmove.sim.metaworld_expert:demonstrate",
        subtasks="nextmove.sim.metaworld_plans:subtasks",
        noise=0.1,
        holds=False,
        packages=("mujoco", "gymnasium"),
        rendering=SETTINGS,
        settings={"env": f"{name}-v3"},
    )


_BY_LEVEL = {level: tuple(_task(*entry) for entry in tasks.items()) for level, tasks in INSTRUCTIONS.items()}
_ALL = {task.name: task for tasks in _BY_LEVEL.values() for task in tasks}
_MT10 = (
    "reach",
    "push",
    "pick-place",
    "door-open",
    "drawer-open",
    "drawer-close",
    "button-press-topdown",
    "peg-insert-side",
    "window-open",
    "window-close",
)

SUITES: dict[str, tuple[Task, ...]] = {
    "metaworld/mt10": tuple(_ALL[f"metaworld/{name}"] for name in _MT10),
    "metaworld/mt50": tuple(_ALL.values()),
    **{f"metaworld/{level}": tasks for level, tasks in _BY_LEVEL.items()},
}
"""All 50 and the 10 of Meta-World's multi-task benchmarks, and all by difficulty."""
