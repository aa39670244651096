"""Scalars for TensorBoard, in its own format, written at once.

TensorBoard's writer has a thread of its own, which ends in a traceback when the disk is full.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nextmove.host.files import Appended


def unavailable() -> str | None:
    """What to say where the package that TensorBoard's events are written with is not installed."""
    if importlib.util.find_spec("tensorboard") is not None:
        return None
    return "tensorboard is not installed, so no events are written for it (to have them: pip install tensorboard)"


class Events:
    """An event file in `folder`; with `keep` viewers forget what earlier files say of later steps."""

    def __init__(self, folder: Path, keep: int | None) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        self._proto, self._summary = event_pb2, summary_pb2
        self._file = Appended(folder / f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}")
        self._records: Any = RecordWriter(self._file)
        self._write(wall_time=now, file_version="brain.Event:2")
        if keep is not None:
            log: Any = event_pb2.SessionLog
            self._write(wall_time=now, step=keep + 1, session_log=log(status=log.START))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Named numbers after a step."""
        kind: Any = self._summary.Summary
        found = [kind.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(wall_time=time.time(), step=step, summary=kind(value=found))

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def _write(self, **fields: Any) -> None:
        event: Any = self._proto.Event
        self._records.write(event(**fields).SerializeToString())
