#!/usr/bin/env bash
# dynamixel-sdk: the easy SDK reads a lower limit of -90 degrees as +1.5 million degrees.
#
# Motor.getPresentPosition, -Velocity and -Current bring what they read to signed numbers. getMinPositionLimit and
# getMaxPositionLimit, whose register is signed as well, do not: what setMinPositionLimit(-250961) writes right comes
# back as 4294716335, above the upper limit. Servos of the P and PRO series, of which arms are made, count from the
# middle, so that lower limits are negative; those of the X series count from 0 and hide it. Nothing is said. A goal
# that is kept within the motor's own limits becomes one of the limits, whatever it was: max(low, min(high, goal)) the
# lower, since the number is cut to 32 bits when it is written, np.clip the upper. An arm told to stay runs to its stop.
# (Of the plain SDK it is known that one makes its numbers signed oneself, ROBOTIS-GIT/DynamixelSDK#281; this one is
# there to do it, and the manual says "Int" for positions and limits alike.)
#
# Who is hit: whoever takes limits from the motors, to clip goals, scale actions or write a robot's description.
# Way out: dynamixel_easy_sdk.data_types.toSignedInt(motor.getMinPositionLimit(), 4).
#
# Seen with dynamixel-sdk 4.1.0, pyserial 3.5, Python 3.11.7, a simulated PH54-200 at a pseudo-terminal:
#
#   dynamixel-sdk 4.1.0: a servo at -45 degrees, its limits set to -90 and 90 degrees
#                          the servo holds  the SDK says  expected: the same
#     present position             -125480       -125480  -45 degrees
#     lower limit                  -250961    4294716335  1540174 degrees
#     upper limit                   250961        250961  90 degrees
#   told to stay, the goal kept within the limits; expected: -45 degrees
#     limits as read       goal in the servo  -90 degrees
#     limits made signed   goal in the servo  -45 degrees
#   as described
#
# Ends with 0 if the SDK still behaves so, with 1 if not. Takes a Python of 3.8 or later, on Linux: PYTHON=... bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check dynamixel-sdk==4.1.0 pyserial==3.5 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import os
import pty
import sys
import threading
import tty
from importlib.metadata import version

from dynamixel_easy_sdk.connector import Connector
from dynamixel_easy_sdk.data_types import OperatingMode, toSignedInt
from dynamixel_easy_sdk.dynamixel_error import DxlError, DxlRuntimeError

MODEL, TURN = 2020, 1003846  # PH54-200-S500: its number, and its counts a turn
PING, READ, WRITE, STATUS = 1, 2, 3, 0x55
MODE, HIGH, LOW, GOAL, PRESENT = 11, 48, 52, 564, 580


def checksum(data):
    """CRC-16 of protocol 2.0, polynomial 0x8005, from 0."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x8005 if crc & 0x8000 else 0)) & 0xFFFF
    return crc.to_bytes(2, "little")


class Servo(threading.Thread):
    """A servo behind a serial line that keeps what is written into its registers."""

    def __init__(self):
        super().__init__(daemon=True)
        self.registers = bytearray(1024)
        self.registers[MODE] = OperatingMode.POSITION
        self.line, near = pty.openpty()
        tty.setraw(near)
        self.name = os.ttyname(near)

    def run(self):
        heard = b""
        while True:
            heard += os.read(self.line, 64)
            while len(heard) > 7 and len(heard) >= (size := 7 + int.from_bytes(heard[5:7], "little")):
                packet, heard = heard[:size], heard[size:]
                self.answer(packet[7], packet[8:-2])

    def answer(self, instruction, body):
        reply, address = b"", int.from_bytes(body[:2], "little")
        if instruction == PING:
            reply = MODEL.to_bytes(2, "little") + b"\x01"
        elif instruction == READ:
            reply = bytes(self.registers[address : address + int.from_bytes(body[2:4], "little")])
        elif instruction == WRITE:
            self.registers[address : address + len(body) - 2] = body[2:]
        told = bytes([STATUS, 0]) + reply
        packet = b"\xff\xff\xfd\x00\x01" + (len(told) + 2).to_bytes(2, "little") + told
        os.write(self.line, packet + checksum(packet))

    def held(self, address):
        """A register of four bytes, as the servo takes it: signed."""
        return int.from_bytes(self.registers[address : address + 4], "little", signed=True)


def good(exchange, *given):
    """What an exchange gives, asked again while this machine is too slow to answer in time."""
    for _ in range(50):
        try:
            return exchange(*given)
        except DxlRuntimeError as error:
            if error.dxl_error not in (DxlError.SDK_COMM_RX_TIMEOUT, DxlError.SDK_COMM_RX_CORRUPT):
                raise
    raise TimeoutError("expected an answer, found none in 50 tries")


servo = Servo()
servo.start()
motor = good(Connector(servo.name, 57600).createMotor, 1)
servo.registers[PRESENT : PRESENT + 4] = (-(TURN // 8)).to_bytes(4, "little", signed=True)
good(motor.setMinPositionLimit, -(TURN // 4))
good(motor.setMaxPositionLimit, TURN // 4)
present, low, high = (
    good(ask) for ask in (motor.getPresentPosition, motor.getMinPositionLimit, motor.getMaxPositionLimit)
)
print(f"dynamixel-sdk {version('dynamixel-sdk')}: a servo at -45 degrees, its limits set to -90 and 90 degrees")
print(f"{'':22}{'the servo holds':>16}{'the SDK says':>14}  expected: the same")
read = {"present position": (servo.held(PRESENT), present), "lower limit": (servo.held(LOW), low)}
read["upper limit"] = (servo.held(HIGH), high)
for name, (held, said) in read.items():
    print(f"  {name:20}{held:16}{said:14}  {said / TURN * 360:.0f} degrees")
good(motor.enableTorque)
reached = {}
print("told to stay, the goal kept within the limits; expected: -45 degrees")
for name, bounds in (("as read", (low, high)), ("made signed", (toSignedInt(low, 4), toSignedInt(high, 4)))):
    good(motor.setGoalPosition, max(bounds[0], min(bounds[1], present)))
    reached[name] = round(servo.held(GOAL) / TURN * 360)
    print(f"  limits {name:13} goal in the servo {reached[name]:4} degrees")
wrong = [name for name, (held, said) in read.items() if held != said]
described = wrong == ["lower limit"] and low == 2**32 - TURN // 4 and reached == {"as read": -90, "made signed": -45}
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
