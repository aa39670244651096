#!/usr/bin/env bash
# Klamp't: inserting a time into a trajectory breaks it, and a new mesh of times cuts its corners and its end.
#
# Trajectory.insert(time) "inserts a milestone and keyframe at the given time". It goes in front of the segment that it
# lies on, not behind that segment's beginning: the times are out of order, and the path begins elsewhere or jumps.
# Trajectory.remesh(newtimes) returns a path with the times given "as well as the current milestone times", less those
# not needed to follow the path within tol, 1e-6. The last old milestone before each new time is dropped always, and so
# is the end if no new time is there: paths are off by centimetres, or end too early. New times at the old ones hide it.
# Nothing is said by either.
#
# Who is hit: whoever brings recorded trajectories to the times of frames or of one another.
# Way out: eval at every time of the union, in a list of one's own, or split(time), which is right.
#
# Seen with Klampt 0.10.1.post1, NumPy 2.4.6, Python 3.11.7:
#
#   Klampt 0.10.1.post1: a path through 0, 10, 40 and 90 cm, one second each; expected: 0.0 cm off
#   as it is                   0, 1, 2, 3          from  0.0 to 90.0,  0.0 cm off
#   insert(0.5)                0.5, 0, 1, 2, 3     from  5.0 to 90.0,  5.0 cm off
#   insert(1.5)                0, 1.5, 1, 2, 3     from  0.0 to 90.0,  6.6 cm off
#   insert(2.5)                0, 1, 2.5, 2, 3     from  0.0 to 90.0,  6.7 cm off
#   remesh([0, 1, 2, 3])       0, 1, 2, 3          from  0.0 to 90.0,  0.0 cm off
#   remesh([0.5, 3])           0, 0.5, 1, 2, 3     from  0.0 to 90.0,  0.0 cm off
#   remesh([0.5, 1.5, 2.5, 3]) 0, 0.5, 1.5, 2.5, 3 from  0.0 to 90.0,  5.0 cm off
#   remesh([0.5])              0, 0.5, 1, 2        from  0.0 to 40.0, 50.0 cm off
#   as described
#
# Ends with 0 if Klamp't still behaves so, with 1 if not. Takes a Python of 3.11 to 3.13: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check Klampt==0.10.1.post1 numpy==2.4.6 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

import numpy as np
from klampt.model.trajectory import Trajectory

TIMES, PLACES = [0.0, 1.0, 2.0, 3.0], [0.0, 10.0, 40.0, 90.0]  # seconds, centimetres
GRID = np.linspace(0, 3, 301)
right = np.interp(GRID, TIMES, PLACES)


def path():
    return Trajectory(list(TIMES), [[place] for place in PLACES])


def inserted(time):
    one = path()
    one.insert(time)
    return one


def line(name, one):
    away = max(abs(one.eval(t)[0] - place) for t, place in zip(GRID.tolist(), right))
    times = ", ".join(f"{t:g}" for t in one.times)
    print(f"{name:26} {times:19} from {one.eval(0)[0]:4.1f} to {one.eval(3)[0]:4.1f}, {away:4.1f} cm off")
    return round(away, 1)


print(f"Klampt {version('Klampt')}: a path through 0, 10, 40 and 90 cm, one second each; expected: 0.0 cm off")
found = [line("as it is", path())]
found += [line(f"insert({time})", inserted(time)) for time in (0.5, 1.5, 2.5)]
MESHES = ([0, 1, 2, 3], [0.5, 3], [0.5, 1.5, 2.5, 3], [0.5])
found += [line(f"remesh({mesh})", path().remesh(mesh)[0]) for mesh in MESHES]
described = found == [0, 5, 6.6, 6.7, 0, 0, 5, 50]
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
