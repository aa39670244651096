#!/usr/bin/env bash
# skrl: of a memory that was exported as CSV every step comes back as terminated and truncated.
#
# Memory.save(format="csv") writes flags as the words True and False. MemoryFileIterator, the package's reader of these
# files, takes bool("False") for False, and in Python the boolean of a word that is not empty is True. All other numbers
# are right, and the same memory as "npz" or "pt" is right whole. Nothing is said.
#
# Who is hit: whoever makes offline data or analyses of exported memories: no value is bootstrapped any more, every
# episode has one step, and the count of successes by termination is the count of steps.
# Way out: format="npz", or the words of the file by csv.DictReader, compared with "True".
#
# Seen with skrl 2.1.1, PyTorch 2.13.0, NumPy 2.4.6, Python 3.11.7:
#
#   skrl 2.1.1: 10 steps of 2 environments, exported and read again
#   expected: terminated 3 of 20, truncated 0 of 20, whatever the format
#     pt   terminated  3 of 20, truncated  0 of 20, rewards right
#     npz  terminated  3 of 20, truncated  0 of 20, rewards right
#     csv  terminated 20 of 20, truncated 20 of 20, rewards right
#   as described
#
# Ends with 0 if it still behaves so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    skrl==2.1.1 torch==2.13.0 numpy==2.4.6 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

import numpy as np
import torch
from skrl.memories.torch import RandomMemory
from skrl.utils.postprocessing import MemoryFileIterator

STEPS, ENVIRONMENTS = 10, 2
memory = RandomMemory(memory_size=STEPS, num_envs=ENVIRONMENTS, device="cpu")
memory.create_tensor("rewards", size=1, dtype=torch.float32)
for name in ("terminated", "truncated"):
    memory.create_tensor(name, size=1, dtype=torch.bool)
for step in range(STEPS):
    ends = torch.tensor([[step == STEPS - 1], [step % 5 == 4]])  # one episode of ten steps, two of five
    rewards = torch.tensor([[float(step)], [-float(step)]])
    memory.add_samples(rewards=rewards, terminated=ends, truncated=torch.zeros(ENVIRONMENTS, 1, dtype=torch.bool))
print(f"skrl {version('skrl')}: {STEPS} steps of {ENVIRONMENTS} environments, exported and read again")
print("expected: terminated 3 of 20, truncated 0 of 20, whatever the format")
found = {}
for kind in ("pt", "npz", "csv"):
    memory.save(kind, format=kind)
    _, read = next(MemoryFileIterator(f"{kind}/memories/*.{kind}"))
    flags = [np.asarray(read[name]).reshape(-1) for name in ("terminated", "truncated")]
    same = sorted(np.asarray(read["rewards"]).reshape(-1)) == sorted(memory.tensors["rewards"].reshape(-1).tolist())
    found[kind] = [int(flag.sum()) for flag in flags], same
    ended, cut = found[kind][0]
    print(f"  {kind:4} terminated {ended:2} of 20, truncated {cut:2} of 20, rewards {'right' if same else 'wrong'}")
described = found == {"pt": ([3, 0], True), "npz": ([3, 0], True), "csv": ([20, 20], True)}
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
