"""A trained policy in a control loop: every tick an observation in, the action that is due out, at the policy's rate.

    python examples/drive.py RUN [--runtime openvino] [--seed 100000] [--real]
    python examples/drive.py RUN --world metaworld/drawer-open --task "Open the drawer."

The simulator stands where a robot would; exchange `robot` for what reads your sensors and moves your arm. Time passes
only as the clock says, so that the loop is the same everywhere; with --real it is the wall's, and ticks come late
where a plan takes longer than a tick. A policy that takes an instruction is told --task, whatever the world is for;
without it what belongs to the world. What the policy writes before it acts is printed as it changes.
"""

import argparse
import time

import numpy as np
import torch

from nextmove import control, jobs, sim
from nextmove.contracts import seeded
from nextmove.evaluation.latency import TimedActor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--runtime", choices=("torch", "openvino"), default="torch")
    parser.add_argument("--unchanged", type=float, help="levels of 255 up to which a camera's tokens are kept")
    parser.add_argument("--world", default="pusht", help="task of a simulator")
    parser.add_argument("--task", help="what the robot is told, in words")
    parser.add_argument("--seed", type=int, default=100_000)
    parser.add_argument("--real", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)  # small networks are quickest on one
    policy = jobs.load_policy(given.run, runtime=given.runtime, unchanged=given.unchanged)
    if given.task and "task" not in policy.inputs:
        raise SystemExit(f"--task: {given.run} takes no instruction, it reads {', '.join(policy.inputs)}")
    writer = TimedActor(policy, policy.spec.fps)  # the policy itself would do: this one remembers its words
    controller = control.suited(writer)
    cameras = {name: feature.shape[:2] for name, feature in policy.inputs.items() if feature.type == "image"}
    robot = sim.make(given.world, cameras, told=(lambda _: given.task) if given.task else None)
    observation, info = robot.reset(seed=given.seed)
    controller.reset(seeded(0))
    controller.step(observation)  # warms up; OpenVINO compiles
    controller.reset(seeded(0))
    virtual = control.VirtualTime()
    fps = policy.spec.fps
    clock = control.Clock(fps) if given.real else control.Clock(fps, now=virtual.now, sleep=virtual.sleep)
    ms, late, over, written = [], 0, False, ""
    while not over and len(ms) < robot.max_steps:
        began = time.perf_counter()
        action = controller.step(observation)
        ms.append(1000 * (time.perf_counter() - began))
        if writer.words and writer.words[0] != written:
            written = writer.words[0]
            print(f"tick {len(ms) - 1}: {written}")
        observation, _, terminated, truncated, info = robot.step(action)  # a robot is sent the action here
        late += clock.wait() > 0  # and read after the wait
        over = terminated or truncated
    planning = np.sort(ms)[-len(ms) // controller.n_action_steps :]
    print(f"{'solved' if info['is_success'] else 'not solved'} in {len(ms)} ticks at {fps:g} a second")
    print(f"a tick takes {np.median(ms):.2f} ms, one that plans {np.median(planning):.1f}, the slowest {max(ms):.1f}")
    print(f"{late} ticks late, {clock.missed} missed, the latest by {1000 * clock.worst:.1f} ms")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, ImportError, RuntimeError) as problem:  # says what does not fit, and what to do
        raise SystemExit(f"drive.py: {problem}") from None
