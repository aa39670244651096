#!/usr/bin/env bash
# d3rlpy: an episode of one step is not closed, so that the next one goes on in it, from another scene.
#
# A replay buffer is filled by append(observation, action, reward) and clip_episode(terminated) at an episode's end, by
# fit_online and collect, too. clip_episode returns at once where the episode, which it does not count as terminated
# yet, has no pair of steps: the flag is lost, and the step stays. What is appended next, after a reset, becomes its
# continuation: "terminal" is 0 where an end was, and the next observation is that of another episode, whose value is
# then bootstrapped into this one. Of episodes that all have one step every second end is lost. Nothing is said. The
# same steps as an MDPDataset are right, and so are longer episodes. A one-step episode that is cut off by time, of
# which no transition can be made, leaves one as well.
#
# Who is hit: whoever learns grasps or pushes that are one decision each, or has an episode now and then that succeeds
# or fails at its first step.
# Way out: buffer.append_episode(Episode(observations, actions, rewards, terminated)) for each finished episode.
#
# Seen with d3rlpy 2.8.1, PyTorch 2.13.0, NumPy 2.4.6, Python 3.11.7:
#
#   d3rlpy 2.8.1: transitions of episodes, tens are the scene, ones the step in it
#   episodes of 1, 1, 1, 1, 1, 1 steps, all terminated; expected: ends 6, into another scene 0
#     made at once           10>END 20>END 30>END 40>END 50>END 60>END
#                            ends 6, into another scene 0
#     append, clip_episode   10>20 20>END 30>40 40>END 50>60 60>END
#                            ends 3, into another scene 3
#   episodes of 3, 1, 2, 1, 2 steps, all terminated; expected: ends 5, into another scene 0
#     made at once           10>11 11>12 12>END 20>END 30>31 31>END 40>END 50>51 51>END
#                            ends 5, into another scene 0
#     append, clip_episode   10>11 11>12 12>END 20>30 30>31 31>END 40>50 50>51 51>END
#                            ends 3, into another scene 2
#   episodes of 3, 2, 2 steps, all terminated; expected: ends 3, into another scene 0
#     made at once           10>11 11>12 12>END 20>21 21>END 30>31 31>END
#                            ends 3, into another scene 0
#     append, clip_episode   10>11 11>12 12>END 20>21 21>END 30>31 31>END
#                            ends 3, into another scene 0
#   episodes of 1, 3 steps, cut off by time; expected: ends 0, into another scene 0
#     append, clip_episode   10>20 20>21 21>22
#                            ends 0, into another scene 1
#   as described
#
# Ends with 0 if it still behaves so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check d3rlpy==2.8.1 torch==2.13.0 numpy==2.4.6 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import logging
import sys
from importlib.metadata import version

import gymnasium
import numpy as np
import structlog

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

from d3rlpy.dataset import MDPDataset, create_infinite_replay_buffer


class Table(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 99, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)


def episodes(lengths):
    """Observations of every episode: tens are its scene, ones the step in it."""
    return [[float(10 * scene + step) for step in range(length)] for scene, length in enumerate(lengths, 1)]


def written(lengths, terminated):
    """A buffer that is filled step by step."""
    buffer = create_infinite_replay_buffer(env=Table())
    for scene in episodes(lengths):
        for observation in scene:
            last = observation == scene[-1]
            buffer.append(np.float32([observation]), np.zeros(1, np.float32), float(last))
        buffer.clip_episode(terminated)
    return buffer


def whole(lengths):
    """A buffer that is made of the same steps at once."""
    steps = np.float32([[observation] for scene in episodes(lengths) for observation in scene])
    ends = np.float32([observation == scene[-1] for scene in episodes(lengths) for observation in scene])
    return MDPDataset(steps, np.zeros_like(steps), ends[:, None], ends)


def read(buffer):
    """All transitions: observation, the next one, or END."""
    found = []
    for index in range(buffer.transition_count):
        step = buffer.transition_picker(*buffer.buffer[index])
        found.append((int(step.observation[0]), "END" if step.terminal else int(step.next_observation[0])))
    return found


def shown(name, lengths, buffer):
    found = read(buffer)
    across = sum(after != "END" and after // 10 != before // 10 for before, after in found)
    ends = sum(after == "END" for _, after in found)
    print(f"  {name:22}", *(f"{before}>{after}" for before, after in found))
    print(f"  {'':22} ends {ends}, into another scene {across}")
    return ends, across


print(f"d3rlpy {version('d3rlpy')}: transitions of episodes, tens are the scene, ones the step in it")
found = {}
for lengths in ((1, 1, 1, 1, 1, 1), (3, 1, 2, 1, 2), (3, 2, 2)):
    steps = ", ".join(map(str, lengths))
    print(f"episodes of {steps} steps, all terminated; expected: ends {len(lengths)}, into another scene 0")
    found[lengths] = [
        shown("made at once", lengths, whole(lengths)),
        shown("append, clip_episode", lengths, written(lengths, True)),
    ]
print("episodes of 1, 3 steps, cut off by time; expected: ends 0, into another scene 0")
cut = shown("append, clip_episode", (1, 3), written((1, 3), False))
described = (
    all(pair[0] == (len(lengths), 0) for lengths, pair in found.items())
    and found[1, 1, 1, 1, 1, 1][1] == (3, 3)
    and found[3, 1, 2, 1, 2][1] == (3, 2)
    and found[3, 2, 2][1] == (3, 0)
    and cut == (0, 1)
)
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
