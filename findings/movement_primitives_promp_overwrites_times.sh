#!/usr/bin/env bash
# movement_primitives: a ProMP overwrites the times it is given by shares of the motion; its velocities are by those.
#
# Every method of ProMP that takes an array of times divides it by its end, in place, in the caller's own array: after a
# demonstration of two seconds was imitated, or a trajectory asked for, the caller's times end at 1.0, and so does what
# he then writes, plots or gives to the next method. mean_velocities, var_velocities and cov_velocities are derivatives
# by these shares, not by time: of a motion of two seconds they are twice the velocities, of half a second half. Where
# the caller differentiates the mean trajectory by the times that he has left, the two agree. Motions of one second are
# right and hide both. Nothing is said, and no thread was found that speaks of it.
#
# Who is hit: whoever learns from demonstrations that are not a second long and uses the velocities, or his times again.
# Way out: give T.copy(), and divide velocities by T[-1], variances and covariances by its square.
#
# Seen with movement_primitives 0.9.1, NumPy 2.4.6, SciPy 1.17.1, Python 3.11.7:
#
#   movement_primitives 0.9.1: a hand moves by 30 cm; expected: times end as given, both velocities alike
#            the end of the times behind                       largest velocity, cm/s
#      lasts   imitate  mean_trajectory  mean_velocities        said  of mean   shown
#      0.5 s        1.0              1.0              1.0        58.8    116.8   112.5
#      1.0 s        1.0              1.0              1.0        58.8     58.4    56.2
#      2.0 s        1.0              1.0              1.0        58.8     29.2    28.1
#      5.0 s        1.0              1.0              1.0        58.8     11.7    11.2
#   as described
#
# Ends with 0 if it still behaves so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    movement_primitives==0.9.1 numpy==2.4.6 scipy==1.17.1 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

import numpy as np
from movement_primitives.promp import ProMP

STEPS, WAY = 101, 30.0  # centimetres
share = np.linspace(0, 1, STEPS)
shown = WAY * (share**3 * (10 - 15 * share + 6 * share**2))[:, np.newaxis]  # at rest at both ends
PEAK = WAY * 15 / 8  # its largest velocity, if it takes a second


def line(seconds):
    """Ends of the caller's times behind each method, and the largest velocity said and had, in centimetres a second."""
    times = [np.linspace(0, seconds, STEPS) for _ in range(4)]
    promp = ProMP(1, n_weights_per_dim=15)
    promp.imitate([times[0], times[1]], [shown, shown])
    mean = promp.mean_trajectory(times[2])[:, 0]
    said = promp.mean_velocities(times[3])[:, 0]
    had = np.gradient(mean, np.linspace(0, seconds, STEPS))
    ends = [float(times[k][-1]) for k in (0, 2, 3)]
    found = float(said.max()), float(had.max())
    behind = f"{ends[0]:10.1f} {ends[1]:16.1f} {ends[2]:16.1f}"
    print(f"{seconds:6.1f} s {behind} {found[0]:11.1f} {found[1]:8.1f} {PEAK / seconds:7.1f}")
    return ends, found


name = "movement_primitives"
print(f"{name} {version(name)}: a hand moves by {WAY:.0f} cm; expected: times end as given, both velocities alike")
print(f"{'':8} the end of the times behind                       largest velocity, cm/s")
print("   lasts   imitate  mean_trajectory  mean_velocities        said  of mean   shown")
table = {seconds: line(seconds) for seconds in (0.5, 1.0, 2.0, 5.0)}
described = all(ends == [1.0, 1.0, 1.0] for ends, _ in table.values())
described &= all(abs(found[0] / found[1] / seconds - 1) < 0.05 for seconds, (_, found) in table.items())
described &= all(abs(found[1] * seconds / PEAK - 1) < 0.1 for seconds, (_, found) in table.items())
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
