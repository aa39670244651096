#!/usr/bin/env bash
# feetech-servo-sdk: a second handler, for the other series of servos, turns the bytes of the first one's words round.
#
# PacketHandler(0) is for the STS and SMS series, whose words have the low byte first, PacketHandler(1) for SCS, with
# the high byte first. The choice is kept in a variable of the module, not in the handler that is returned: all handlers
# have the order of the one made last. An arm of STS3215 at position 2058 (0x080A) is then read at 2568 (0x0A08), and a
# goal of 2058 is sent as 2568, 45 degrees on. Checksums are right, the result is COMM_SUCCESS, nothing is said.
#
# Who is hit: whoever has an arm of one series and a hand or a head of the other in one process, as arms with SCS0009
# fingers; a library that makes its handlers first and then talks by both is hit without a word of it in the program.
# Way out: scservo_sdk.scservo_def.SCS_SETEND(0 or 1) before every exchange, or one process for each series.
#
# Seen with feetech-servo-sdk 1.0.0, pyserial 3.5, Python 3.11.7, a servo at the far end of a pseudo-terminal:
#
#   feetech-servo-sdk 1.0.0: an STS servo at 2058, an SCS servo at 515, told to stay
#   expected: 2058 and 2058, 515 and 515; every exchange COMM_SUCCESS
#   STS, its handler the only one     2058 2058
#   SCS, its handler made second      515 515
#   STS, the same handler as before   2568 2568
#   as described
#
# Ends with 0 if the SDK still behaves so, with 1 if not. Takes a Python of 3.8 or later, on Linux: PYTHON=... bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check feetech-servo-sdk==1.0.0 pyserial==3.5 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import os
import pty
import sys
import threading
import tty
from importlib.metadata import version

from scservo_sdk import COMM_SUCCESS, PacketHandler, PortHandler

GOAL, PRESENT, READ, WRITE = 42, 56, 2, 3


class Servo(threading.Thread):
    """A servo of one series behind a serial line, at once where it is told to be."""

    def __init__(self, order, position):
        super().__init__(daemon=True)
        self.order, self.position = order, position
        self.line, near = pty.openpty()
        tty.setraw(near)
        self.port = PortHandler(os.ttyname(near))

    def run(self):
        heard = b""
        while True:
            heard += os.read(self.line, 64)
            while len(heard) > 3 and len(heard) >= heard[3] + 4:
                packet, heard = heard[: heard[3] + 4], heard[heard[3] + 4 :]
                self.answer(packet[4], packet[5], packet[6:-1])

    def answer(self, instruction, address, data):
        reply = b""
        if (instruction, address) == (READ, PRESENT):
            reply = self.position.to_bytes(2, self.order)
        elif (instruction, address) == (WRITE, GOAL):
            self.position = int.from_bytes(data, self.order)
        body = bytes([1, len(reply) + 2, 0]) + reply
        os.write(self.line, b"\xff\xff" + body + bytes([~sum(body) & 0xFF]))


def opened(order, position):
    servo = Servo(order, position)
    servo.start()
    assert servo.port.openPort() and servo.port.setBaudRate(115200)
    servo.port.ser.timeout = 0
    return servo


def good(exchange):
    """What an exchange gives, asked again while this machine is too slow to answer in time."""
    for _ in range(50):
        *said, result, error = exchange()
        if (result, error) == (COMM_SUCCESS, 0):
            return said
    raise TimeoutError(f"expected COMM_SUCCESS, found {result}")


def used(handler, servo, goal):
    """Where the SDK says the servo is, and where it is after the goal, which should be the goal."""
    said = good(lambda: handler.read2ByteTxRx(servo.port, 1, PRESENT))
    good(lambda: handler.write2ByteTxRx(servo.port, 1, GOAL, goal))
    return said[0], servo.position


print(f"feetech-servo-sdk {version('feetech-servo-sdk')}: an STS servo at 2058, an SCS servo at 515, told to stay")
print("expected: 2058 and 2058, 515 and 515; every exchange COMM_SUCCESS")
arm, finger = opened("little", 2058), opened("big", 515)
for_arm = PacketHandler(0)
found = [used(for_arm, arm, 2058)]
print("STS, its handler the only one    ", *found[-1])
for_finger = PacketHandler(1)
arm.position = 2058
found += [used(for_finger, finger, 515), used(for_arm, arm, 2058)]
print("SCS, its handler made second     ", *found[-2])
print("STS, the same handler as before  ", *found[-1])
described = found == [(2058, 2058), (515, 515), (2568, 2568)]
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
