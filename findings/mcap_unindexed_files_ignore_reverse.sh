#!/usr/bin/env bash
# mcap: asked for the newest message of a file without a chunk index, the reader gives the oldest.
#
# make_reader reads files without an index of chunks "linearly", by a reader of streams that it makes inside, to which it
# does not pass on reverse. "if both log_time_order and reverse are True, messages will be yielded in descending log time
# order": they come in ascending order, so that next(), the way to the last state of an episode, has the first. The
# reader of streams itself knows the option, and make_reader obeys it for files with an index. Nothing is said.
#
# Who is hit: whoever reads recordings that were written without chunks or without an index, for speed: use_chunking and
# index_types here, noChunking and noChunkIndex in ROS 2's writer.
# Way out: NonSeekingReader(stream).iter_messages(reverse=True), or sorting by log_time.
#
# Seen with mcap 1.6.0, Python 3.11.7:
#
#   mcap 1.6.0: reverse=True; expected: 5 4 3 2 1
#   chunks and index  make_reader       5 4 3 2 1
#   chunks and index  NonSeekingReader  5 4 3 2 1
#   chunks, no index  make_reader       1 2 3 4 5
#   chunks, no index  NonSeekingReader  5 4 3 2 1
#   no chunks         make_reader       1 2 3 4 5
#   no chunks         NonSeekingReader  5 4 3 2 1
#   as described
#
# Ends with 0 if mcap still behaves so, with 1 if not. Takes a Python of 3.10 or later: PYTHON=python3.12 bash ...
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check mcap==1.6.0 2>/dev/null
cd "$place"
venv/bin/python -W ignore - 2>said <<'PY' || { code=$?; tail -n 3 said >&2; exit "$code"; }
import io
import sys
from importlib.metadata import version

from mcap.reader import NonSeekingReader, make_reader
from mcap.writer import CompressionType, IndexType, Writer


def written(**options):
    """Five messages of a gripper that closes, at 1 to 5 s."""
    stream = io.BytesIO()
    writer = Writer(stream, compression=CompressionType.NONE, **options)
    writer.start()
    channel = writer.register_channel(schema_id=0, topic="/gripper", message_encoding="json")
    for second in range(1, 6):
        writer.add_message(channel, second * 10**9, b'{"open": %d}' % (100 - 20 * second), second * 10**9)
    writer.finish()
    return stream.getvalue()


def seconds(reader):
    return [message.log_time // 10**9 for _, _, message in reader.iter_messages(reverse=True)]


print(f"mcap {version('mcap')}: reverse=True; expected: 5 4 3 2 1")
found = []
for name, options in (
    ("chunks and index", {}),
    ("chunks, no index", {"index_types": IndexType.NONE}),
    ("no chunks", {"use_chunking": False}),
):
    data = written(**options)
    for kind, read in (("make_reader", make_reader), ("NonSeekingReader", NonSeekingReader)):
        order = seconds(read(io.BytesIO(data)))
        print(f"{name:16}  {kind:16}  {' '.join(map(str, order))}")
        found.append(order == [5, 4, 3, 2, 1])
described = found == [True, True, False, True, False, True]
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
