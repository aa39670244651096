"""The ALOHA tasks beside gym-aloha's own environments: states, rewards and pixels have to be equal, to the last bit.

gym-aloha draws without shadows and multisampling here, as the tasks do.

    pip install '.[aloha]' && python benchmarks/aloha_parity.py [--steps 60]

One environment at a time: they pass the objects' poses through a list of gym-aloha's module.
"""

import argparse
import hashlib
import json
from typing import Any

import numpy as np

from nextmove import sim
from nextmove.sim.tasks import ALOHA


def episode(env: Any, read: Any, steps: int, actions: np.ndarray) -> list[str]:
    """A hash of what was seen and earned at every step."""
    observation = env.reset(seed=3)[0]
    found = [read(observation, 0.0)]
    for i in range(steps):
        observation, reward = env.step(actions[i])[:2]
        found.append(read(observation, reward))
    env.close()
    return found


def hashed(state: Any, image: Any, reward: float) -> str:
    """Of one step."""
    parts = [np.asarray(state, np.float32).tobytes(), np.asarray(image).tobytes(), str(float(reward)).encode()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    steps = parser.parse_args().steps
    for task in ALOHA:
        env = sim.make(task, ["top"])
        rest = env.reset(seed=3)[0]["observation.state"]
        wander = np.cumsum(np.random.default_rng(0).normal(0, 0.03, (steps, 14)), 0)
        actions = (rest + wander).astype(np.float32)
        ours = episode(env, lambda o, r: hashed(o["observation.state"], o["observation.images.top"], r), steps, actions)
        from gym_aloha.env import AlohaEnv

        original = AlohaEnv(task.settings["task"], obs_type="pixels_agent_pos")
        drawn = original._env.physics.model
        drawn.light_castshadow[:], drawn.vis.quality.offsamples = 0, 0
        theirs = episode(original, lambda o, r: hashed(o["agent_pos"], o["pixels"]["top"], r), steps, actions)
        equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
        print(json.dumps({"task": task.name, "steps": len(ours), "equal": equal}))


if __name__ == "__main__":
    main()
