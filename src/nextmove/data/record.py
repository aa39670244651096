"""Recording: many episodes in parallel processes into one LeRobot data set; finished episodes survive crashes."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from nextmove.data.columns import stored_entries
from nextmove.data.draft import SETTINGS, Draft, difference
from nextmove.data.due import Numbers as Numbers
from nextmove.data.due import RecordingError as RecordingError
from nextmove.data.due import Turns
from nextmove.data.encode import VideoCodec
from nextmove.data.errors import DataError
from nextmove.data.layout import DEFAULTS, parse_feature
from nextmove.data.writer import DatasetWriter
from nextmove.host.files import read_json, replacing, write_json
from nextmove.host.found import RECORDING as UNFINISHED
from nextmove.host.found import found as found_there
from nextmove.host.lock import hold
from nextmove.host.signals import StoppedError
from nextmove.host.workers import Failure, SetupError, WorkerPool

_log = logging.getLogger(__name__)

RECORDING = "recording.json"
"""In `meta` of a recorded data set: what was recorded."""
GRACE = 5.0
"""Seconds that workers have to finish the episodes under way."""


class Recorded(Protocol):
    """An episode: equally long columns by feature name, and whether it is worth keeping."""

    @property
    def columns(self) -> Mapping[str, npt.NDArray[Any]]:
        """One row a step."""
        ...

    @property
    def success(self) -> bool:
        """Episodes without success are not stored."""
        ...


Play = Callable[[int], Recorded]


def record(
    root: Path | str,
    *,
    features: Mapping[str, Mapping[str, Any]],
    fps: float,
    episode: Play,
    episodes: int,
    workers: int = 2,
    progress: bool = True,
    robot_type: str | None = None,
    task: str | Sequence[str] = "",
    simulator: Mapping[str, Any] | None = None,
    source: Callable[[int], Mapping[str, Any]] | None = None,
) -> Path:
    """Records `episode(0)`, `episode(1)`, ... until `episodes` have succeeded, as a LeRobot v3.0 data set at `root`.

    Finished episodes wait in the folder `root`.recording, each there whole or not at all: after a crash, a full disk or
    `kill -9` the same call goes on, and where the data set is complete it returns at once. The result does not depend
    on `workers` or interruptions; `meta/recording.json` in it says what was recorded and which numbers failed.

    features: LeRobot entries of the columns. episode: plays the episode of a number, a function of the number alone (a
    module's function, a `functools.partial` of one or a frozen dataclass, as other processes have to find it).
    workers: processes, one thread each; 0 plays here. progress: a bar, where stderr is a terminal. task: the
    instruction stored with every episode; of several tasks theirs, which take turns (number n is of the one at n modulo
    their count) and have `episodes` each. simulator: versions and settings of what plays the episodes, plain JSON
    values, kept in `meta/recording.json`; what another one recorded is not gone on with. source: what is kept there of
    the episode of a number, for each in the data set. Raises DataError for a folder of something else, InUseError if
    another process records into it, RecordingError if an episode raised, a process died, the disk is full or too many
    episodes failed, and StoppedError after Ctrl-C; none of them costs a finished episode.
    """
    if episodes < 1 or workers < 0:
        raise ValueError(f"episodes, workers: expected at least 1 and 0, found {episodes!r} and {workers!r}")
    root, entries = Path(root), {name: dict(entry) for name, entry in features.items()}
    tasks = [task] if isinstance(task, str) else list(task)
    settings = {"episode": describe(episode), "features": entries, "fps": fps, "robot_type": robot_type, "task": task}
    stored = {
        name: parse_feature(name, e, "features") for name, e in stored_entries(entries, fps, VideoCodec()).items()
    }
    draft = Draft(root.with_name(root.name + UNFINISHED), stored, fps, VideoCodec())
    if simulator is not None and _says(root / "meta" / RECORDING, draft.folder / SETTINGS):
        settings["simulator"] = dict(simulator)
    if root.exists():
        _check_finished(root, {**settings, "episodes": episodes})
        shutil.rmtree(draft.folder, ignore_errors=True)
        return root
    with hold(draft.folder):
        draft.open(settings)
        numbers = Turns(draft.done(), episodes, tasks)
        try:
            with _bar(progress, "recording", numbers.wanted) as advance:
                _play_all(_Job(episode, draft, tasks), numbers, workers, advance)
            _assemble(root, draft, numbers, {**settings, "episodes": episodes}, source)
        except KeyboardInterrupt as stop:
            raise StoppedError.of(stop, f"{root}: stopped; {draft.kept()}") from None
    return root


def recorded_with(root: Path) -> dict[str, Any] | None:
    """The `simulator` that a data set was recorded with, None where it does not say; `tasks` names those in it."""
    path = root / "meta" / RECORDING
    said = read_json(path, DataError) if path.is_file() else {}
    if not isinstance(found := said.get("simulator"), Mapping):
        return None
    tasks = sorted({source["task"] for source in said.get("sources", ()) if "task" in source})
    return {**found, **({"tasks": tasks} if tasks else {})}


def _says(*paths: Path) -> bool:
    """Whether what was begun names its simulator, or nothing was begun; older versions did not, which stays unknown."""
    begun = next((path for path in paths if path.is_file()), None)
    return begun is None or "simulator" in read_json(begun, DataError)


def describe(episode: Any) -> str:
    """What plays the episodes, as text that is the same in every process: names and settings."""
    if isinstance(episode, partial):
        given = [repr(a) for a in episode.args] + [f"{k}={v!r}" for k, v in sorted(episode.keywords.items())]
        return f"{describe(episode.func)}({', '.join(given)})"
    name = getattr(episode, "__qualname__", None)
    return f"{episode.__module__}.{name}" if name else repr(episode)


def _check_finished(root: Path, settings: Mapping[str, Any]) -> None:
    path = root / "meta" / RECORDING
    if not path.exists():
        raise DataError(
            f"{root}: expected a folder that does not exist yet; {found_there(root, 'dataset')}; name another (--out)"
        )
    found = read_json(path, DataError)
    for what in ("failed", "sources"):
        found.pop(what, None)
    differing = difference(found, settings)
    if differing:
        raise DataError(f"{root}: already recorded with another {differing}; name another folder or remove this one")


class _Job:
    """Plays an episode and stages it, in whatever process."""

    def __init__(self, play: Play, draft: Draft, tasks: Sequence[str]) -> None:
        self.play, self.draft, self.tasks = play, draft, tasks

    def __call__(self, number: int) -> bool:
        """Whether episode `number` succeeded."""
        episode = self.play(number)
        if not episode.success:
            self.draft.fail(number)
            return False
        names = {name for name in self.draft.features if name not in DEFAULTS}
        if episode.columns.keys() != names:
            raise DataError(f"expected the columns {sorted(names)}, found {sorted(episode.columns)}")
        self.draft.add(number, episode.columns, self.tasks[number % len(self.tasks)])
        return True


def _play_all(job: _Job, numbers: Turns, workers: int, advance: Callable[[], None]) -> None:
    left = numbers.wanted
    for _ in numbers.succeeded():
        left -= 1
        advance()
    if not left:
        return
    with WorkerPool[int, bool](partial(_ready, job), min(workers, left), grace=GRACE) as pool:
        try:
            for number, success in pool.run(numbers.next_task):
                if isinstance(success, Failure):
                    raise RecordingError(f"episode {number}: {success.reason.strip()}; {_KEPT}")
                numbers.finish(number, success)
                if success:
                    advance()
        except SetupError as problem:
            raise RecordingError(f"{problem}; {_KEPT}") from problem


_KEPT = "what was finished is kept, the same call goes on from there"


def _ready(job: _Job) -> _Job:
    return job


def _assemble(
    root: Path,
    draft: Draft,
    numbers: Turns,
    settings: Mapping[str, Any],
    source: Callable[[int], Mapping[str, Any]] | None,
) -> None:
    """The data set from the finished episodes, in order, built beside `root` and moved there when complete."""
    if numbers.failed():
        _log.warning("%s: passed over the episodes %s, which failed", root, numbers.failed())
    try:
        with replacing(root) as building:
            writer = DatasetWriter(building, settings["features"], settings["fps"], settings["robot_type"])
            writer.finalize(draft.episodes(numbers.succeeded()))
            sources = {"sources": [dict(source(number)) for number in numbers.succeeded()]} if source else {}
            write_json(building / "meta" / RECORDING, {**settings, "failed": numbers.failed(), **sources})
    except OSError as problem:
        message = f"{root}: {problem.strerror or problem}; {draft.kept()}, and the same call goes on from there"
        raise RecordingError(message) from problem
    draft.discard()


@contextmanager
def _bar(show: bool, what: str, total: int) -> Iterator[Callable[[], None]]:
    """What is called after every episode; moves a bar with the time left, if shown."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (show and console.is_terminal)) as bar:
        line = bar.add_task(what, total=total)
        yield lambda: bar.advance(line)
