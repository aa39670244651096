#!/usr/bin/env bash
# SVT-AV1 by PyAV, run by root: who writes one video has a real-time thread of the highest priority from then on.
#
# AV1 is what LeRobot's data sets are recorded in, and a container's user is root. With the first frame the encoder gives
# the thread that hands it over the policy SCHED_FIFO with priority 99, and never takes it back: not when the stream ends,
# not when the file is closed. Every thread that is started afterwards inherits it. x264 in the same wheel does nothing
# of the kind, and an ordinary user sees nothing of it, since the system refuses.
#
# Who is hit: whoever records and then does something else in one process. Threads of that priority go before everything
# on the machine: before a control loop with SCHED_FIFO 80, before other trainings, and before the kernel's own writing to
# disk. Threads that wait for each other by spinning (OpenMP, oneTBB) then take every core; beside such threads a process
# here stood still in fsync for ten minutes, and did not even end when it was killed.
# Way out: note os.sched_getscheduler(0) before, and set it again, for the encoder's threads too, behind the first frame.
#
# Seen with PyAV 18.1.0 (libSvtAv1Enc 4.1.0), Linux 6, Python 3.11.7, as root:
#
#   PyAV 18.1.0: scheduling of the thread that writes videos; expected: SCHED_OTHER 0 throughout
#   before                      SCHED_OTHER 0
#   x264, file closed           SCHED_OTHER 0
#   SVT-AV1, first frame given  SCHED_FIFO 99
#   SVT-AV1, file closed        SCHED_FIFO 99
#   a thread started afterwards SCHED_FIFO 99
#   as described
#
# Ends with 0 if it still behaves so, with 1 if not, with 2 for a user who is not root or a system that is not Linux.
# Takes a Python of 3.11 or later: PYTHON=python3.12 bash ...
set -euo pipefail
if [ "$(uname)" != Linux ] || [ "$(id -u)" != 0 ]; then
    echo "needs Linux and root, as in most containers: found $(uname) and user $(id -u)" >&2
    exit 2
fi
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6 2>/dev/null
cd "$place"
SVT_LOG=1 timeout 60 venv/bin/python - <<'PY'
import os
import sys
import threading

import av
import numpy as np

NAMES = {os.SCHED_OTHER: "SCHED_OTHER", os.SCHED_FIFO: "SCHED_FIFO", os.SCHED_RR: "SCHED_RR"}
found = {}


def note(when: str) -> None:
    found[when] = (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)
    print(f"{when:27} {NAMES[found[when][0]]} {found[when][1]}")


def write(codec: str, name: str) -> None:
    with av.open(f"{codec}.mp4", "w") as out:
        stream = out.add_stream(codec, rate=30)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        if codec == "libsvtav1":
            note(f"{name}, first frame given")
        out.mux(stream.encode(None))
    note(f"{name}, file closed")


print(f"PyAV {av.__version__}: scheduling of the thread that writes videos; expected: SCHED_OTHER 0 throughout")
note("before")
write("libx264", "x264")
write("libsvtav1", "SVT-AV1")
later = threading.Thread(target=note, args=("a thread started afterwards",))
later.start()
later.join()
ordinary, first = (os.SCHED_OTHER, 0), (os.SCHED_FIFO, 99)
same = list(found.values()) == [ordinary, ordinary, first, first, first]
print("as described" if same else "not as described")
sys.exit(not same)
PY
