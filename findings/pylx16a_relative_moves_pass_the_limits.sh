#!/usr/bin/env bash
# pylx16a: a relative move is checked as if it were absolute, so that it passes the limits, and none goes backwards.
#
# move(angle, relative=True) adds the angle to the last one commanded. What is compared with the limits that were set by
# set_angle_limits, and with the servo's range, is the step alone. From 140 degrees with an upper limit of 150 a step of
# 120 is sent as 260, of which the servo has 240; a step of 20, allowed from anywhere, is refused where the lower limit
# is 30, and a step of -10 always. The documentation says that arguments out of bounds "raise an exception. They are not
# clamped", since "servos can be dangerous". Absolute moves are checked right, so that the limits seem to work. Besides,
# a negative offset that was just set, -10, is read back by get_angle_offset() as 51.36; asked of the servo it is right.
#
# Who is hit: whoever moves arms or hands of these servos by steps, as policies with relative actions do.
# Way out: absolute moves, servo.move(servo.get_commanded_angle() + step).
#
# Seen with pylx16a 1.1.1, pyserial 3.5, Python 3.11.7:
#
#   pylx16a 1.1.1: what is sent for a step, and for an absolute move to the same place
#     limits   start  step   relative  absolute
#      0  150    100    20        120       120
#      0  150    140    20        160   refused
#      0  150    140   120        260   refused
#     30  150    100    20    refused       120
#      0  150    100   -10    refused        90
#   an offset of -10: 51.36, asked of the servo -10.08
#   as described
#
# Ends with 0 if it still behaves so, with 1 if not. Takes a Python of 3.10 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps pylx16a==1.1.1 pyserial==3.5 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

import serial
from pylx16a.lx16a import LX16A, ServoArgumentError

MOVE, OFFSET, LIMITS, POSITION = 1, 17, 20, 28  # numbers of commands; one that reads what was written is one more
DEGREES = 0.24  # a step of the servo


class Servo:
    """A serial port with one servo on it, which goes at once where it is told to."""

    def __init__(self, *args, **options):
        self.kept = {OFFSET: bytes(1), LIMITS: bytes([0, 0, 232, 3]), POSITION: bytes(2)}
        self.answer, self.told = b"", None

    def write(self, packet):
        number, command, data = packet[2], packet[4], packet[5:-1]
        if command == MOVE:
            self.told = int.from_bytes(data[:2], "little") * DEGREES
            self.kept[POSITION] = bytes(data[:2])
        elif data:
            self.kept[command] = bytes(data)
        else:
            length = {14: 1, 21: 4, 23: 4, 30: 4, 28: 2}.get(command, 1)
            kept = self.kept.get(command if command == POSITION else command - {19: 2}.get(command, 1), bytes(length))
            body = bytes([number, length + 3, command, *kept])
            self.answer = b"\x55\x55" + body + bytes([~sum(body) & 0xFF])

    def read(self, length):
        return self.answer


serial.Serial = Servo
LX16A.initialize("a port")
port = LX16A._controller


def moved(limits, start, step):
    """The angle that is sent for a relative move, "refused", and the same for its absolute twin."""
    servo, sent = LX16A(1), []
    for angle, relative in ((step, True), (start + step, False)):
        servo.set_angle_limits(0, 240)
        servo.move(start)
        servo.set_angle_limits(*limits)
        try:
            servo.move(angle, relative=relative)
            sent.append(round(port.told))
        except ServoArgumentError:
            sent.append("refused")
    return sent


print(f"pylx16a {version('pylx16a')}: what is sent for a step, and for an absolute move to the same place")
print("  limits   start  step   relative  absolute")
found = []
for limits, start, step in (
    ((0, 150), 100, 20),
    ((0, 150), 140, 20),
    ((0, 150), 140, 120),
    ((30, 150), 100, 20),
    ((0, 150), 100, -10),
):
    found.append(moved(limits, start, step))
    print(f"{limits[0]:4} {limits[1]:4} {start:6} {step:5} {found[-1][0]:>10} {found[-1][1]:>9}")
servo = LX16A(1)
servo.set_angle_offset(-10)
offsets = [round(servo.get_angle_offset(poll_hardware=asked), 2) for asked in (False, True)]
print(f"an offset of -10: {offsets[0]}, asked of the servo {offsets[1]}")
described = found == [[120, 120], [160, "refused"], [260, "refused"], ["refused", 120], ["refused", 90]]
described = described and offsets == [51.36, -10.08]
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
