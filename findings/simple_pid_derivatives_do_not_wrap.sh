#!/usr/bin/env bash
# simple-pid: error_map wraps the error of an angle, not its derivative, so that a turn across 180 degrees jerks.
#
# error_map is there "to transform the error value to another domain before doing any computations on it", and the
# guide's own example wraps a yaw. The derivative is computed before. On the measurement, as is the default, the one
# step in which a yaw goes from 180 to -180 degrees counts as a turn of 360 back. On the error it is worse: the error,
# not yet mapped, less the last one, mapped, is a full turn off in every step on the far side of the seam, and the
# controller drives the wrong way with all its force. Nothing is said. The tests of error_map have a gain of 0 there.
#
# Who is hit: whoever steers a base, a wrist or a drone by angles that wrap, and whoever records demonstrations so.
# Way out: setpoint 0, no error_map, and the wrapped error, negated, for the input: pid(-wrapped(target - yaw)).
#
# Seen with simple-pid 2.0.1, Python 3.11.7:
#
#   simple-pid 2.0.1: a yaw that wraps at 180 degrees, with error_map
#   derivative term of a steady turn of 40 deg/s across the seam; expected: -40 -40 -40 -40 -40
#     on the measurement     -40   7160    -40    -40    -40
#     on the error         -7240    -40    -40    -40    -40
#   a base told to turn by 20 degrees, least and most turn on the way, and the last; expected: 0 20 20, nearly
#     on the measurement    80 to  100       0     20     20
#     on the measurement   170 to -170       0     20     20
#     on the error          80 to  100       0     20     20
#     on the error         170 to -170   -2850      0  -2850
#   as described
#
# Ends with 0 if simple-pid still behaves so, with 1 if not. Takes a Python of 3.8 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check simple-pid==2.0.1 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

from simple_pid import PID

STEP = 0.05


def wrapped(degrees):
    """The same angle within -180 and 180."""
    return (degrees + 180) % 360 - 180


def controller(on_measurement, target, **gains):
    return PID(
        **gains, setpoint=target, sample_time=None, error_map=wrapped, differential_on_measurement=on_measurement
    )


def derivatives(on_measurement):
    """What the derivative term says, gain 1, of a yaw that turns by 40 degrees a second from 177 to 187."""
    pid = controller(on_measurement, -170, Kp=0, Ki=0, Kd=1)
    terms = []
    for i in range(6):
        pid(wrapped(177 + 40 * STEP * i), dt=STEP)
        terms.append(round(pid.components[2]))
    return terms[1:]


def driven(on_measurement, start, target):
    """A base that is turned by a torque, 15 s, to a target 20 degrees on: how far it swings, and where it ends."""
    pid = controller(on_measurement, target, Kp=4, Ki=0, Kd=4)
    pid.output_limits = (-200, 200)
    yaw, rate, turned = float(start), 0.0, [0.0]
    for _ in range(int(15 / STEP)):
        rate += pid(wrapped(yaw), dt=STEP) * STEP
        yaw += rate * STEP
        turned.append(yaw - start)
    return [round(value) for value in (min(turned), max(turned), turned[-1])]


print(f"simple-pid {version('simple-pid')}: a yaw that wraps at 180 degrees, with error_map")
print("derivative term of a steady turn of 40 deg/s across the seam; expected: -40 -40 -40 -40 -40")
terms = {name: derivatives(flag) for name, flag in (("on the measurement", True), ("on the error", False))}
for name, values in terms.items():
    print(f"  {name:19}", *(f"{value:6}" for value in values))
print("a base told to turn by 20 degrees, least and most turn on the way, and the last; expected: 0 20 20, nearly")
ends = {}
for name, flag in (("on the measurement", True), ("on the error", False)):
    for start, target in ((80, 100), (170, -170)):
        ends[name, start] = driven(flag, start, target)
        print(f"  {name:19} {start:4} to {target:4} ", *(f"{value:6}" for value in ends[name, start]))
jerk = [value for value in terms["on the measurement"] if value != -40]
described = (
    jerk == [7160]
    and terms["on the error"].count(-40) < 5
    and all(ends[name, 80] == [0, 20, 20] for name in terms)
    and min(ends["on the error", 170]) < -20
)
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
