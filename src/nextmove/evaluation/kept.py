"""Finished episodes on disk while an evaluation runs, so that a stopped one resumes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nextmove.evaluation.episode import EpisodeResult, episode_json, read_episode
from nextmove.evaluation.keys import Key
from nextmove.host.files import full, read_json, write_json
from nextmove.host.signals import StoppedError

KEY = "key.json"
FORMAT = 2
"""Of the files; 2 names the task of each episode."""


class Kept:
    """A folder of episodes by task and seed, of one policy played in one way: `key`, plain JSON values.

    Episodes of another key that lie there are removed: they are of other weights or settings.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.folder, self._key = folder, json.loads(json.dumps({"format": FORMAT, **key}))
        if folder.is_dir() and not self._same():
            shutil.rmtree(folder)
        write_json(folder / KEY, self._key, indent=None)

    def known(self, keys: Sequence[Key]) -> dict[Key, EpisodeResult]:
        """The finished ones of these; a file that is damaged counts as absent."""
        found = {}
        for key in keys:
            with suppress(FileNotFoundError, ValueError, TypeError, KeyError):
                found[key] = read_episode(read_json(self._path(key)))
        return found

    def add(self, episode: EpisodeResult) -> None:
        """Keeps a finished episode."""
        write_json(self._path(episode.key), episode_json(episode), indent=None)

    def _same(self) -> bool:
        try:
            return bool(read_json(self.folder / KEY) == self._key)
        except (FileNotFoundError, ValueError):
            return False

    def _path(self, key: Key) -> Path:
        task, seed = key[0].replace("/", "."), key[1]
        return self.folder / (f"{task}-{seed}.json" if task else f"{seed}.json")


@contextmanager
def keeping(folder: Path, key: Mapping[str, Any]) -> Iterator[Kept]:
    """Stores finished episodes until the block ends; errors of a stop or a full disk name what is stored."""
    kept = Kept(folder, key)
    try:
        yield kept
    except KeyboardInterrupt as stop:
        raise StoppedError.of(stop, f"stopped; {_kept_in(folder)}") from None
    except OSError as problem:
        if full(problem):
            problem.add_note(f"{_kept_in(folder).capitalize()}.")
        raise
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # it holds others
        folder.parent.rmdir()


def _kept_in(folder: Path) -> str:
    """What is kept, as text."""
    return f"{sum(path.name != KEY for path in folder.glob('*.json'))} finished rollouts are kept in {folder}"
