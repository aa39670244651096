#!/usr/bin/env bash
# Gymnasium: resetting the environments that have ended sets the return and length of all the others to 0.
#
# With AutoresetMode.DISABLED one resets those that are done oneself, by options={"reset_mask": ...}, and the others go
# on. vector.RecordEpisodeStatistics knows the mask, but looks for it after the environments' own reset, which takes it
# out of the options: so it finds none and starts all counts again. An episode that lives through another's end is
# reported shorter and worth less, by whatever it had until then. Observations and rewards are right, nothing is said,
# and the other two modes are right. There is an open change (Farama-Foundation/Gymnasium#1696), which says the same of
# vector.NormalizeReward.
#
# Who is hit: whoever evaluates or trains a policy in several environments and resets them himself: mean returns and
# lengths are too small, the more so the more environments there are; successes counted by a return go missing.
# Way out: one's own sums, or gymnasium.wrappers.RecordEpisodeStatistics inside each environment.
#
# Seen with Gymnasium 1.4.0, NumPy 2.4.6, Python 3.11.7:
#
#   Gymnasium 1.4.0: episodes of 3, 5 and 10 steps side by side, a reward of 1 in each step
#   expected: every length and every return as long as the episode
#   mode        episode of  lengths reported                   mean return
#   NEXT_STEP            3  3 3 3 3 3 3 3 3 3 3                 3.00
#   NEXT_STEP            5  5 5 5 5 5 5                         5.00
#   NEXT_STEP           10  10 10 10                           10.00
#   SAME_STEP            3  3 3 3 3 3 3 3 3 3 3 3 3 3           3.00
#   SAME_STEP            5  5 5 5 5 5 5 5 5                     5.00
#   SAME_STEP           10  10 10 10 10                        10.00
#   DISABLED             3  3 1 3 2 3 3 1 3 2 3 3 1 3           2.38
#   DISABLED             5  2 1 3 2 1 3 2 1                     1.88
#   DISABLED            10  1 2 3 1                             1.75
#   as described
#
# Ends with 0 if Gymnasium still behaves so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check gymnasium==1.4.0 numpy==2.4.6 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

LENGTHS = (3, 5, 10)


class Task(gymnasium.Env):
    """An episode of a fixed number of steps, a reward of 1 in each."""

    observation_space = gymnasium.spaces.Box(0, 100, (1,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, steps):
        self.steps = steps

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.now = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.now += 1
        return np.full(1, self.now, np.float32), 1.0, self.now == self.steps, False, {}


def episodes(mode):
    """The lengths and returns that are reported in 40 steps, each environment's own."""
    envs = SyncVectorEnv([lambda steps=steps: Task(steps) for steps in LENGTHS], autoreset_mode=mode)
    envs = RecordEpisodeStatistics(envs)
    envs.reset(seed=0)
    found = [[] for _ in LENGTHS]
    for _ in range(40):
        _, _, terminated, _, infos = envs.step(np.zeros((len(LENGTHS), 1), np.float32))
        for i in np.flatnonzero(terminated):
            found[i].append((int(infos["episode"]["l"][i]), float(infos["episode"]["r"][i])))
        if mode is AutoresetMode.DISABLED and terminated.any():
            envs.reset(options={"reset_mask": terminated})
    return found


print(f"Gymnasium {version('gymnasium')}: episodes of 3, 5 and 10 steps side by side, a reward of 1 in each step")
print("expected: every length and every return as long as the episode")
print("mode        episode of  lengths reported                   mean return")
right = {}
for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
    found = episodes(mode)
    for steps, reported in zip(LENGTHS, found):
        lengths = " ".join(str(length) for length, _ in reported)
        print(f"{mode.name:10}  {steps:10}  {lengths:33}  {np.mean([total for _, total in reported]):5.2f}")
    right[mode.name] = [all(pair == (steps, steps) for pair in reported) for steps, reported in zip(LENGTHS, found)]
described = right == {"NEXT_STEP": [True] * 3, "SAME_STEP": [True] * 3, "DISABLED": [False] * 3}
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
