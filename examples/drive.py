"""A trained policy in a control loop: an observation in, the action that is due out, every tick.

python examples/drive.py RUN [torch|openvino] [SEED]

The simulator stands where a robot would; exchange `robot` for what reads your sensors and moves your arm.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from nextmove import control, jobs, sim
from nextmove.contracts import seeded

if __name__ == "__main__":
    given = dict(enumerate(sys.argv[1:]))
    torch.set_num_threads(1)  # small networks are quickest on one
    controller = control.suited(jobs.load_policy(Path(given[0]), runtime=given.get(1, "torch")))
    robot = sim.make("pusht")
    observation, _ = robot.reset(seed=int(given.get(2, 100_000)))
    controller.reset(seeded(0))
    controller.step(observation)  # warms up; OpenVINO compiles
    controller.reset(seeded(0))
    ms, over, info = [], False, {}
    while not over and len(ms) < robot.max_steps:
        began = time.perf_counter()
        action = controller.step(observation)
        ms.append(1000 * (time.perf_counter() - began))
        observation, _, terminated, truncated, info = robot.step(action)
        over = terminated or truncated
    planning = np.sort(ms)[-len(ms) // controller.n_action_steps :]
    print(f"{'solved' if info['is_success'] else 'not solved'} in {len(ms)} ticks at {robot.fps:g} a second")
    print(f"a tick takes {np.median(ms):.2f} ms, one that plans {np.median(planning):.1f}, the slowest {max(ms):.1f}")
