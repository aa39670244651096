#!/usr/bin/env bash
# mcap-ros2-support, mcap-protobuf-support: a decoder factory that has read one file reads the next by its types.
#
# make_reader takes decoder_factories, and each of the two keeps what it has made by the number of the schema. Numbers
# are a file's own: a recorder gives them out as topics come up, so that two episodes of one robot often have them in
# another order. A factory that is made once and given to every reader then reads by the wrong type. Where the sizes
# agree nothing is said: a position comes back as roll, pitch and yaw, or with Protobuf a width as 0, for a field of
# another wire type counts as unknown. Where they do not, it is an error about the data. The schema that is handed out
# beside is the right one. Two importers had to find it out (yaak-ai/rbyte#54, NeuracoreAI/neuracore#978).
#
# Who is hit: whoever converts a folder of recordings into a data set.
# Way out: new factories for every file.
#
# Seen with mcap 1.6.0, mcap-ros2-support 0.6.0, mcap-protobuf-support 0.6.0, protobuf 7.36.2, Python 3.11.7:
#
#   mcap 1.6.0, mcap-ros2-support 0.6.0, mcap-protobuf-support 0.6.0
#   expected: the same messages of the second file, by whatever factory
#   /position  new factory   arm/Position: Position(x=0.4, y=0.1, z=0.3)
#              the first's   arm/Position: Angles(roll=0.4, pitch=0.1, yaw=0.3)
#   /angles    new factory   arm/Angles: Angles(roll=3.1, pitch=0.0, yaw=1.6)
#              the first's   arm/Angles: Position(x=3.1, y=0.0, z=1.6)
#   /width     new factory   google.protobuf.DoubleValue: value: 0.08
#              the first's   google.protobuf.DoubleValue: value: 0
#   /contacts  new factory   google.protobuf.Int64Value: value: 2
#              the first's   google.protobuf.Int64Value: value: 0.0
#   as described
#
# Ends with 0 if they still behave so, with 1 if not. Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    mcap==1.6.0 mcap-ros2-support==0.6.0 mcap-protobuf-support==0.6.0 protobuf==7.36.2 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import io
import sys
from importlib.metadata import version

import mcap_protobuf.decoder
import mcap_protobuf.writer
import mcap_ros2.decoder
import mcap_ros2.writer
from google.protobuf.wrappers_pb2 import DoubleValue, Int64Value
from mcap.reader import make_reader

ROS2 = {
    "/position": ("arm/Position", "float64 x\nfloat64 y\nfloat64 z", {"x": 0.4, "y": 0.1, "z": 0.3}),
    "/angles": ("arm/Angles", "float64 roll\nfloat64 pitch\nfloat64 yaw", {"roll": 3.1, "pitch": 0.0, "yaw": 1.6}),
}
PROTOBUF = {"/width": DoubleValue(value=0.08), "/contacts": Int64Value(value=2)}


def ros2(topics):
    """An episode by ROS 2's messages, whose topics come up in the order given."""
    stream = io.BytesIO()
    writer = mcap_ros2.writer.Writer(stream)
    for topic in topics:
        name, text, message = ROS2[topic]
        writer.write_message(topic, writer.register_msgdef(name, text), message, log_time=1, publish_time=1)
    writer.finish()
    return stream


def protobuf(topics):
    """An episode by Protobuf's messages, whose topics come up in the order given."""
    stream = io.BytesIO()
    with mcap_protobuf.writer.Writer(stream) as writer:
        for topic in topics:
            writer.write_message(topic, PROTOBUF[topic], log_time=1, publish_time=1)
    return stream


def shown(message):
    return f"value: {message.value}" if hasattr(message, "value") else str(message)


def read(stream, factory):
    """By topic: the type that the file says, and the message as it is read."""
    stream.seek(0)
    messages = make_reader(stream, decoder_factories=[factory]).iter_decoded_messages()
    return {found.channel.topic: (found.schema.name, shown(found.decoded_message)) for found in messages}


print(*(f"{name} {version(name)}" for name in ("mcap", "mcap-ros2-support", "mcap-protobuf-support")), sep=", ")
print("expected: the same messages of the second file, by whatever factory")
described = True
for made, written, topics in (
    (mcap_ros2.decoder.DecoderFactory, ros2, list(ROS2)),
    (mcap_protobuf.decoder.DecoderFactory, protobuf, list(PROTOBUF)),
):
    first, second = written(topics), written(topics[::-1])
    kept = made()
    once, new, again = read(first, kept), read(second, made()), read(second, kept)
    for topic in topics:
        print(f"{topic:10} new factory   {': '.join(new[topic])}")
        print(f"{'':10} the first's   {': '.join(again[topic])}")
    described &= once == new and all(new[topic] != again[topic] for topic in topics)
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
