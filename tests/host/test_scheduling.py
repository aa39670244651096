"""A thread's scheduling after what changes it."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from nextmove.data.encode import VideoCodec, encode_video
from nextmove.host.scheduling import keeper

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of threads' scheduling")


def in_a_thread(do: object) -> None:
    """Runs in a thread of its own, so that nothing of it stays."""
    found: list[BaseException] = []

    def run() -> None:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        try:
            do()  # type: ignore[operator]
        except BaseException as problem:
            found.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if found:
        raise found[0]


def test_scheduling_comes_back_for_this_thread_and_those_started_since() -> None:
    def changed() -> None:
        keep, seen, go = keeper(), list[int](), threading.Event()
        # What anybody may do; the encoder does it with a policy that only root may have.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        started = threading.Thread(target=lambda: (go.wait(), seen.append(os.sched_getscheduler(0))))
        started.start()
        keep()
        go.set()
        started.join()
        assert os.sched_getscheduler(0) == os.SCHED_OTHER
        assert seen == [os.SCHED_OTHER]

    in_a_thread(changed)


def test_threads_that_were_there_before_keep_their_own() -> None:
    seen, ready, go = list[int](), threading.Event(), threading.Event()

    def other() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        ready.set()
        go.wait()
        seen.append(os.sched_getscheduler(0))

    def kept() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        ready.wait()
        keeper()()
        go.set()
        thread.join()

    in_a_thread(kept)
    assert seen == [os.SCHED_BATCH]


def test_videos_leave_the_thread_that_writes_them_as_it_was(tmp_path: Path) -> None:
    def written() -> None:
        frames, policies = np.zeros((3, 16, 16, 3), np.uint8), list[int]()

        def watched() -> object:
            for frame in frames:
                yield frame
                policies.append(os.sched_getscheduler(0))

        encode_video(tmp_path / "a.mp4", watched(), 10, VideoCodec())  # type: ignore[arg-type]
        assert policies == [os.SCHED_OTHER] * 3
        assert os.sched_getscheduler(0) == os.SCHED_OTHER

    in_a_thread(written)
