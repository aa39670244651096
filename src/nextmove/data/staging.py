"""Finished episodes on disk while a recording runs: each one file, written so that it is there whole or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nextmove.data.errors import DataError
from nextmove.host.files import read_json, replacing, write_bytes, write_json

_EPISODE, _FAILED = "episode-{:06d}.npz", "episode-{:06d}.failed"
_NUMBER = re.compile(r"episode-(\d+)\.(npz|failed)")
SETTINGS = "recording.json"


class Staging:
    """A folder of finished episodes by number; those that failed are only remembered."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, settings: Mapping[str, Any]) -> None:
        """Creates the folder for a recording with these settings, or checks that it was begun with the same.

        Raises DataError naming the first setting that differs.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / SETTINGS
        if not path.exists():
            write_json(path, settings)
            return
        differing = difference(read_json(path, DataError), settings)
        if differing:
            raise DataError(f"{self.root}: begun with another {differing}; delete the folder to begin anew")

    def store(self, number: int, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keeps episode `number`."""
        path = self.root / _EPISODE.format(number)
        arrays: dict[str, Any] = {name: np.asarray(column) for name, column in columns.items()}
        with replacing(path) as part, part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    def fail(self, number: int) -> None:
        """Remembers that episode `number` did not succeed."""
        write_bytes(self.root / _FAILED.format(number), b"")

    def load(self, number: int) -> dict[str, npt.NDArray[Any]]:
        """The columns of episode `number`; raises DataError naming the file if it is damaged."""
        path = self.root / _EPISODE.format(number)
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except Exception as problem:
            raise DataError(f"{path}: unreadable ({problem}); delete it and record again") from problem

    def kept(self) -> str:
        """What is there, in words."""
        return f"{sum(self.done().values())} finished episodes are kept in {self.root}"

    def done(self) -> dict[int, bool]:
        """Whether each finished episode succeeded, by number."""
        found = (_NUMBER.fullmatch(path.name) for path in self.root.iterdir())
        return {int(match[1]): match[2] == "npz" for match in found if match}


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first setting in which two recordings differ, with both values, or nothing."""
    other = json.loads(json.dumps(other))
    for key in sorted({*one, *other}):
        if one.get(key) != other.get(key):
            return f"{key}: {one.get(key)!r}, now {other.get(key)!r}"
    return ""
