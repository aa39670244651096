#!/usr/bin/env bash
# d3rlpy: of a Minari data set, actions slip away from their observations by one more step in every episode.
#
# An episode of Minari has one observation more than it has actions, as its documentation says. get_minari puts the
# observations of all episodes end to end, their actions end to end, and cuts both at the same places. The first one is
# right. In the second each action stands beside the observation before its own, in the hundredth beside one 99 places
# earlier, in a long data set beside another episode's. Shapes agree, nothing is checked, nothing is said. A cloned
# policy learns another behaviour, a value another world; mean and range of everything are nearly right, so that
# normalisation shows nothing.
#
# Who is hit: whoever trains d3rlpy on Minari's data sets, or on one's own recorded by Minari's DataCollector.
# Way out: a ReplayBuffer of one's own, of Episode(e.observations[:-1], e.actions, e.rewards[:, None], terminated).
#
# Seen with d3rlpy 2.8.1, Minari 0.5.4, gymnasium 1.0.0, PyTorch 2.13.0, NumPy 2.4.6, Python 3.11.7:
#
#   d3rlpy 2.8.1, Minari 0.5.4: 40 episodes of 25 steps, each does what it sees
#   Minari alone: action and observation agree in 40 of 40 episodes
#   get_minari; expected: the same in every row
#     episode  action of (episode, step)  beside the observation of
#           0  ( 0, 24)                   ( 0, 24)
#           1  ( 1, 24)                   ( 1, 23)
#           2  ( 2, 24)                   ( 2, 22)
#          10  (10, 24)                   (10, 14)
#          39  (39, 24)                   (38, 11)
#   pairs of action and observation that belong together: 25 of 1000
#   as described
#
# Ends with 0 if it still behaves so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile \
    d3rlpy==2.8.1 minari==0.5.4 gymnasium==1.0.0 pillow==13.0.0 torch==2.13.0 numpy==2.4.6 2>/dev/null
cd "$place"
export MINARI_DATASETS_PATH=$place/data
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import logging
import sys
from importlib.metadata import version

import gymnasium
import minari
import numpy as np
import structlog
from minari.data_collector import EpisodeBuffer

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

from d3rlpy.datasets import get_minari

EPISODES, STEPS = 40, 25


class Room(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Box(0, 99, (2,), np.float32)


def episode(number):
    """What is seen is the number of the episode and the step in it; what is done is what was seen."""
    seen = np.float32([[number, step] for step in range(STEPS + 1)])
    ends = np.arange(STEPS) == STEPS - 1
    return EpisodeBuffer(
        id=number,
        observations=list(seen),
        actions=list(seen[:-1]),
        rewards=[0.0] * STEPS,
        terminations=list(ends),
        truncations=[False] * STEPS,
    )


gymnasium.register("Room-v0", entry_point="__main__:Room", max_episode_steps=99)
recorded = minari.create_dataset_from_buffers(
    dataset_id="room/echo-v0", buffer=[episode(number) for number in range(EPISODES)], env=gymnasium.make("Room-v0")
)

print(f"d3rlpy {version('d3rlpy')}, Minari {version('minari')}:", end=" ")
print(f"{EPISODES} episodes of {STEPS} steps, each does what it sees")
same = [np.array_equal(read.observations[:-1], read.actions) for read in recorded]
print(f"Minari alone: action and observation agree in {sum(same)} of {len(same)} episodes")
buffer, _ = get_minari("room/echo-v0")
print("get_minari; expected: the same in every row")
print("  episode  action of (episode, step)  beside the observation of")
behind = []
for number, read in enumerate(buffer.episodes):
    acted, saw = read.actions[STEPS - 1], read.observations[STEPS - 1]
    behind.append(int((acted - saw) @ [STEPS + 1, 1]))
    if number in (0, 1, 2, 10, EPISODES - 1):
        print(f"  {number:7}  ({acted[0]:2.0f}, {acted[1]:2.0f}) {'':17} ({saw[0]:2.0f}, {saw[1]:2.0f})")
rows = [np.array_equal(a, o) for read in buffer.episodes for a, o in zip(read.actions, read.observations)]
print(f"pairs of action and observation that belong together: {sum(rows)} of {len(rows)}")
described = all(same) and len(same) == EPISODES and behind == list(range(EPISODES)) and sum(rows) == STEPS
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
