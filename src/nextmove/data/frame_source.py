"""What stored frames were made from, contents of files and times in them: by this a store is known to be up to date."""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import numpy as np

from nextmove.data.cameras import Camera, ImageCamera, VideoCamera
from nextmove.data.dataset import Dataset
from nextmove.data.errors import DataError
from nextmove.data.frame_store import FORMAT, Segment
from nextmove.data.layout import read_json
from nextmove.data.tables import Array
from nextmove.host.files import write_json

HASHES = "hashes.json"


class Sources:
    """What segments are made from, as hashes: contents of files, times of the frames in them.

    A file is read once; whoever finds it with the size and the time of its last change as in `base` takes that hash.
    """

    def __init__(self, dataset: Dataset, base: Path) -> None:
        self.dataset, self._file = dataset, base / HASHES
        self._known: dict[str, list[object]] = {}
        with suppress(DataError):
            self._known = dict(read_json(self._file))
        self._new = False

    def of(self, name: str, segment: Segment) -> str:
        """The hash of all that decides the frames of a camera's segment."""
        camera, feature = self.dataset.video(name), self.dataset.layout.feature(name)
        rows = np.arange(segment.start, segment.stop)
        files, where = placed(camera, rows)
        kind = [FORMAT, feature.shape, feature.dtype, segment.first, segment.last]
        found = blake2b(json.dumps([kind, [self.hash(path) for path in files]]).encode(), digest_size=16)
        found.update(np.ascontiguousarray(where).data)
        return found.hexdigest()

    def hash(self, path: Path) -> str:
        """Of a file's content; of one that is not there, nothing."""
        try:
            status = path.stat()
        except OSError:
            return ""
        key, now = str(path.relative_to(self.dataset.root)), [status.st_size, status.st_mtime_ns]
        if self._known.get(key, [])[:2] != now:
            found = blake2b(digest_size=16)
            with path.open("rb") as file:
                while part := file.read(1 << 20):
                    found.update(part)
            self._known[key] = [*now, found.hexdigest()]
            self._new = True
        return str(self._known[key][2])

    def keep(self) -> None:
        """Write what was found, where it can be written."""
        if self._new:
            with suppress(OSError):
                write_json(self._file, self._known)
            self._new = False


def placed(camera: Camera, rows: Array) -> tuple[list[Path], Array]:
    """The files that hold the images of these rows, and where each lies in them (seconds, or the row)."""
    if isinstance(camera, VideoCamera):
        files = camera.clips.file_of[camera.episodes.of_rows(rows)]
        return [camera.clips.files[i] for i in np.unique(files).tolist()], camera.seconds(rows)
    assert isinstance(camera, ImageCamera)
    return camera.files(rows), rows
