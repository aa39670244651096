#!/usr/bin/env bash
# rosbags: of an MCAP file whose chunks have no index of messages it counts every message, and reads none.
#
# The index of the messages in each chunk is optional in MCAP ("there may be no message index present", mcap.dev's notes
# on the format), and a chunk without one has to be read. rosbags takes it for a chunk without messages and leaves it
# out. message_count, the connections and the duration are right, for they are kept elsewhere in the file; the loop over
# messages() ends at once. Nothing is said. Files without any index are read whole, by scanning, so that the file with
# less in it is the one that works. mcap's own reader had the same fault (foxglove/mcap#1735, mended in 1.4.0).
#
# Who is hit: whoever converts recordings that were made without this index, to save space and time: noMessageIndex in
# the storage options of ROS 2's recorder, index_types in mcap's writer. An episode comes out empty.
# Way out: mcap.reader.make_reader of mcap 1.4 or later, and rosbags' deserialize_cdr for what it gives.
#
# Seen with rosbags 0.11.9, mcap 1.6.0, Python 3.11.7:
#
#   rosbags 0.11.9, mcap 1.6.0: five messages, 0.1 to 0.5; expected: all five, by both
#   every index           rosbags counts 5 and reads [0.1, 0.2, 0.3, 0.4, 0.5]  mcap reads 5
#   no index of messages  rosbags counts 5 and reads []                         mcap reads 5
#   no index at all       rosbags counts 5 and reads [0.1, 0.2, 0.3, 0.4, 0.5]  mcap reads 5
#   no chunks             rosbags counts 5 and reads [0.1, 0.2, 0.3, 0.4, 0.5]  mcap reads 5
#   as described
#
# Ends with 0 if rosbags still behaves so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    rosbags==0.11.9 mcap==1.6.0 numpy==2.4.6 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import sys
from importlib.metadata import version
from pathlib import Path

from mcap.reader import make_reader
from mcap.writer import IndexType, Writer
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

TYPE = "std_msgs/msg/Float64"
types = get_typestore(Stores.ROS2_HUMBLE)
definition = types.generate_msgdef(TYPE, ros_version=2)[0].encode()


def recorded(path, **options):
    """Five messages of a joint, a second from each other."""
    with path.open("wb") as stream:
        writer = Writer(stream, **options)
        writer.start(profile="ros2")
        schema = writer.register_schema(TYPE, "ros2msg", definition)
        channel = writer.register_channel("/joint", "cdr", schema, {"offered_qos_profiles": ""})
        for second in range(1, 6):
            data = bytes(types.serialize_cdr(types.types[TYPE](second / 10), TYPE))
            writer.add_message(channel, second * 10**9, data, second * 10**9)
        writer.finish()


def by_rosbags(path):
    with AnyReader([path]) as reader:
        values = [reader.deserialize(data, one.msgtype).data for one, _, data in reader.messages()]
        return reader.message_count, values


def by_mcap(path):
    with path.open("rb") as stream:
        return [types.deserialize_cdr(one.data, TYPE).data for _, _, one in make_reader(stream).iter_messages()]


print(f"rosbags {version('rosbags')}, mcap {version('mcap')}: five messages, 0.1 to 0.5; expected: all five, by both")
found = []
for name, options in (
    ("every index", {}),
    ("no index of messages", {"index_types": IndexType.ALL & ~IndexType.MESSAGE}),
    ("no index at all", {"index_types": IndexType.NONE}),
    ("no chunks", {"use_chunking": False}),
):
    path = Path(f"{name.replace(' ', '_')}.mcap")
    recorded(path, **options)
    count, values = by_rosbags(path)
    other = by_mcap(path)
    print(f"{name:20}  rosbags counts {count} and reads {values!s:25}  mcap reads {len(other)}")
    found.append((count, len(values), len(other)))
described = found == [(5, 5, 5), (5, 0, 5), (5, 5, 5), (5, 5, 5)]
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
