#!/usr/bin/env bash
# bagpy: a message with fewer joints than the first one is written into the columns of other quantities.
#
# message_by_topic makes a CSV file of a topic, with a column for every element of the first message: position_0 to
# position_6, velocity_0 and so on. The later messages are written from left to right without a look at these names. One
# with two joints has its velocities in the columns of positions, its efforts in those of velocities, and nothing at the
# end. Nothing is said; pandas reads the file as it reads any other. On /joint_states that is everyday: a driver of the
# arm and one of the gripper publish there by turns, each with its own joints, and empty velocities or efforts are
# allowed. Where the shorter message is the first, pandas refuses the file, which has longer rows than names.
#
# Who is hit: whoever makes demonstrations out of bags by way of these files, which the package's guide reads at once.
# Half the rows are another robot's numbers, of plausible size.
# Way out: rosbags or rosbag itself, and the joints by msg.name.
#
# Seen with bagpy 0.5, py3rosmsgs 1.18.2, pandas 3.1.1, Python 3.11.7:
#
#   bagpy 0.5: an arm of three joints and a hand of two on /joint_states, by turns
#                       position          velocity          effort
#     expected a        0.1 0.2 0.3       0.01 0.02 0.03    5 6 7
#     read              0.1 0.2 0.3       0.01 0.02 0.03    5 6 7
#     expected f        0.04 0.04         0.5 0.5           30 30
#     read              0.04 0.04 0.5     0.5 30 30         - - -
#     expected a        0.1 0.2 0.3       0.01 0.02 0.03    5 6 7
#     read              0.1 0.2 0.3       0.01 0.02 0.03    5 6 7
#     expected f        0.04 0.04         0.5 0.5           30 30
#     read              0.04 0.04 0.5     0.5 30 30         - - -
#   rows that are right: 2 of 4; of a bag of the hand: all
#   as described
#
# Ends with 0 if it still behaves so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    bagpy==0.5 py3rosmsgs==1.18.2 pandas==3.1.1 numpy==2.4.6 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version

import pandas
import rosbag
import rospy
from bagpy import bagreader
from sensor_msgs.msg import JointState

ARM = {"name": ["a0", "a1", "a2"], "position": [0.1, 0.2, 0.3], "velocity": [0.01, 0.02, 0.03], "effort": [5, 6, 7]}
HAND = {"name": ["f0", "f1"], "position": [0.04, 0.04], "velocity": [0.5, 0.5], "effort": [30, 30]}
QUANTITIES = "position", "velocity", "effort"


def recorded(path, messages):
    """A bag of one topic, one message a second."""
    with rosbag.Bag(path, "w") as bag:
        for second, message in enumerate(messages, 1):
            bag.write("/joint_states", JointState(**message), rospy.Time(second))
    return path


def read(path):
    """The rows that bagpy and pandas make of the topic, quantity by quantity."""
    table = pandas.read_csv(bagreader(path, verbose=False).message_by_topic("/joint_states"))
    columns = {q: [name for name in table if name.startswith(q)] for q in QUANTITIES}
    return [{q: [row[name] for name in columns[q]] for q in QUANTITIES} for _, row in table.iterrows()]


def shown(values):
    return " ".join("-" if pandas.isna(value) else f"{value:g}" for value in values)


print(f"bagpy {version('bagpy')}: an arm of three joints and a hand of two on /joint_states, by turns")
print(f"{'':20}{'position':18}{'velocity':18}effort")
given = [ARM, HAND, ARM, HAND]
rows = read(recorded("both.bag", given))
right = []
for message, row in zip(given, rows):
    print(f"  expected {message['name'][0][0]:9}" + "".join(f"{shown(message[q]):18}" for q in QUANTITIES).rstrip())
    print(f"  read     {'':9}" + "".join(f"{shown(row[q]):18}" for q in QUANTITIES).rstrip())
    right.append(all(row[q][: len(message[q])] == message[q] for q in QUANTITIES))
alone = all(row[q] == HAND[q] for row in read(recorded("hand.bag", [HAND, HAND])) for q in QUANTITIES)
print(f"rows that are right: {sum(right)} of {len(rows)}; of a bag of the hand: {'all' if alone else 'not all'}")
described = right == [True, False, True, False] and alone and rows[1]["velocity"][1:] == HAND["effort"]
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
