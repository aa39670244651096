"""Where a data set's cameras are read from in training: stores of decoded frames, made where they are not there yet.

Shapes: E episodes asked for.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path

from nextmove.data.cameras import Camera
from nextmove.data.dataset import Dataset
from nextmove.data.frame_build import Building, Piece
from nextmove.data.frame_source import Sources
from nextmove.data.frame_store import (
    Segment,
    Size,
    Stored,
    StoredCamera,
    needed,
    read_footer,
    segment_path,
    segments,
    store_folder,
)
from nextmove.data.tables import Array
from nextmove.host.files import cache_folder, room, write_text
from nextmove.host.lock import hold
from nextmove.host.threads import cores
from nextmove.host.workers import Failure, run_tasks

FOLDER = ".frames"
"""Name of the stores' folder inside a data set."""
SPARE = 1 << 30
"""Bytes of the disk that a store leaves free."""
QUICK = 500_000_000
"""Pixels that this process decodes by itself: starting others would take longer."""
GB = 1_000_000_000
ANEW = "each is decoded whenever it is asked for"

Say = Callable[[str], None]
Bar = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""Given the number of frames to be decoded, yields what is told of each number decoded."""


@dataclass(frozen=True)
class Frames:
    """Cameras by name that read from stores, and why episodes have no frames there."""

    cameras: Mapping[str, Camera]
    broken: Mapping[int, str] = field(default_factory=dict)


@contextmanager
def no_bar(total: int) -> Iterator[Callable[[int], None]]:
    """Shows nothing."""
    yield lambda count: None


def stored_frames(
    dataset: Dataset,
    sizes: Mapping[str, Size],
    episodes: Array,
    *,
    limit: float,
    say: Say = print,
    bar: Bar = no_bar,
) -> Frames | None:
    """The cameras of these episodes (E,) at these sizes (height, width), decoded once and read from memory maps.

    Stores lie in the data set's folder, or in the user's cache folder where nothing can be written there. What is there
    and was made from what the data set is now is used, by any number of processes; the rest is decoded in parallel,
    while other runs wait. limit: bytes that all stores of the data set may take. Where they may not, or the disk is too
    full, `say` hears why and the answer is None: the data set's own cameras then decode what is asked for.
    """
    wanted = {
        name: (size, needed(segments(dataset, size, _channels(dataset, name)), episodes))
        for name, size in sizes.items()
    }
    stores = _Stores(dataset, wanted)
    if stores.bytes > limit:
        more = f"a larger --frame-store-gb than {limit / GB:g} keeps them" if limit else "--frame-store-gb is 0"
        say(f"frames: decoded ones would take {stores.bytes / GB:.3g} GB, so {ANEW}; {more}")
        return None
    places = [dataset.root / FOLDER, _cache(dataset.root)]
    for base in places:
        if found := stores.whole(base):
            say(f"frames: read from {base}, {stores.bytes / GB:.3g} GB decoded before")
            return found
    base = places[0] if _writable(dataset.root) else places[1]
    try:
        with hold(base, wait=lambda who: say(f"frames: waiting for {who}, which decodes into {base}")):
            return stores.make(base, limit, say, bar)
    except OSError as problem:
        say(f"frames: cannot be kept in {base}, so {ANEW} ({problem})")
        return None


def kept_frames(dataset: Dataset) -> list[str]:
    """A line on each place with decoded frames of a data set."""
    out = []
    for base in (dataset.root / FOLDER, _cache(dataset.root)):
        stores = {path.name: _size(path) for path in sorted(base.glob("*")) if path.is_dir()}
        if stores:
            sizes = ", ".join(f"{name} {size / GB:.3g} GB" for name, size in stores.items())
            out.append(f"decoded frames in {base} ({sizes}); they may be removed at any time")
    return out


class _Stores:
    """The stores of some cameras."""

    def __init__(self, dataset: Dataset, wanted: Mapping[str, tuple[Size, Sequence[Segment]]]) -> None:
        self.dataset, self.wanted = dataset, wanted
        self.bytes = sum(self._bytes(name, size, part) for name, size, part in self._parts())

    def _parts(self) -> Iterator[tuple[str, Size, Segment]]:
        for name, (size, parts) in self.wanted.items():
            yield from ((name, size, part) for part in parts)

    def _bytes(self, name: str, size: Size, part: Segment) -> int:
        return (part.stop - part.start) * size[0] * size[1] * _channels(self.dataset, name)

    def whole(self, base: Path) -> Frames | None:
        """What lies in a folder if nothing has to be decoded."""
        if not base.is_dir():
            return None
        there, lacking, sources = self._look(base)
        sources.keep()
        return None if lacking else self._opened(base, there)

    def _look(self, base: Path) -> tuple[list[tuple[str, Stored]], list[tuple[str, Size, Segment]], Sources]:
        """Segments that are as the data set is now, and those that are not."""
        sources, there, lacking = Sources(self.dataset, base), [], []
        for name, size, part in self._parts():
            path = segment_path(store_folder(base, name, size), part.number)
            found = read_footer(path, part, (*size, _channels(self.dataset, name)))
            if found is not None and found.source == sources.of(name, part):
                there.append((name, found))
            else:
                lacking.append((name, size, part))
        return there, lacking, sources

    def _opened(self, base: Path, stored: Iterable[tuple[str, Stored]]) -> Frames:
        cameras, broken = {}, dict[int, str]()
        for name, (size, _) in self.wanted.items():
            parts = sorted((part for own, part in stored if own == name), key=lambda part: part.segment.start)
            cameras[name] = StoredCamera(self.dataset.layout.feature(name), size, parts)
            for part in parts:
                broken |= {episode: why for episode, why in part.broken.items() if episode not in broken}
            with suppress(OSError):  # when it was used last
                os.utime(store_folder(base, name, size))
        return Frames(cameras, broken)

    def make(self, base: Path, limit: float, say: Say, bar: Bar) -> Frames | None:
        """Decodes what is lacking; None where there is no room for it, which is said."""
        there, lacking, sources = self._look(base)
        new, changed = sum(self._bytes(*part) for part in lacking), self._changed(base, lacking)
        self._make_room(base, new, limit, say)
        if new and new + SPARE > room(base):
            free = f"{max(0, room(base) - SPARE) / GB:.3g} GB may be used"
            say(f"frames: decoded ones would take {new / GB:.3g} GB in {base}, where {free}, so {ANEW}")
            return None
        pieces = [
            Piece(name, size, part, segment_path(store_folder(base, name, size), part.number), sources.of(name, part))
            for name, size, part in lacking
        ]
        sources.keep()
        write_text(base / ".gitignore", "*\n")
        if pieces:
            say(f"frames: {self._planned(lacking, new)} into {base}, once for all runs{changed}")
        made, killed = self._build(pieces, bar)
        opened = self._opened(base, [*there, *made])
        return Frames(opened.cameras, {**killed, **opened.broken})

    def _planned(self, lacking: Sequence[tuple[str, Size, Segment]], new: int) -> str:
        frames = sum(part.stop - part.start for _, _, part in lacking)
        sizes = ", ".join(f"{name} {size[0]}x{size[1]}" for name, (size, _) in self.wanted.items())
        return f"decoding {frames} ({sizes}; {new / GB:.3g} GB)"

    def _changed(self, base: Path, lacking: Sequence[tuple[str, Size, Segment]]) -> str:
        old = sum(segment_path(store_folder(base, name, size), part.number).exists() for name, size, part in lacking)
        return (
            f"; {old} of {sum(1 for _ in self._parts())} parts anew, as what they were made from has changed"
            if old
            else ""
        )

    def _make_room(self, base: Path, new: int, limit: float, say: Say) -> None:
        """Removes stores of other cameras and sizes, those unused longest, until all take no more than `limit`."""
        own = {store_folder(base, name, size) for name, (size, _) in self.wanted.items()}
        used = {path: _size(path) for path in base.iterdir() if path.is_dir()}
        total = sum(used.values()) + new
        for path in sorted(set(used) - own, key=lambda path: path.stat().st_mtime):
            if total > limit:
                say(f"frames: {path.name} is removed from {base}, to keep to --frame-store-gb {limit / GB:g}")
                shutil.rmtree(path, ignore_errors=True)
                total -= used[path]

    def _build(self, pieces: Sequence[Piece], bar: Bar) -> tuple[list[tuple[str, Stored]], dict[int, str]]:
        """The segments made, and episodes that killed the process that decoded them; raises OSError of the disk."""
        pixels = 0
        for piece in pieces:
            height, width, _ = self.dataset.layout.feature(piece.camera).shape
            pixels += (piece.segment.stop - piece.segment.start) * height * width
        workers = 0 if pixels < QUICK or cores() < 2 else min(cores(), len(pieces))
        with bar(sum(piece.segment.stop - piece.segment.start for piece in pieces)) as move:

            def done(result: Stored | OSError | Failure) -> None:
                if isinstance(result, Stored):
                    move(result.segment.stop - result.segment.start)

            results = run_tasks(
                partial(Building, self.dataset.root, self.dataset.tolerance), pieces, workers=workers, done=done
            )
        made, killed = [], dict[int, str]()
        for piece, result in zip(pieces, results, strict=True):
            if isinstance(result, OSError):
                raise result
            if isinstance(result, Failure):
                episodes = range(piece.segment.first, piece.segment.last)
                why = f"{piece.camera!r}: {result.reason} while it decoded episodes {piece.segment.first} to "
                killed |= dict.fromkeys(episodes, f"{why}{piece.segment.last - 1}")
            else:
                made.append((piece.camera, result))
        return made, killed


def _channels(dataset: Dataset, name: str) -> int:
    return dataset.layout.feature(name).shape[2]


def _cache(root: Path) -> Path:
    """The folder for a data set that nothing can be written into."""
    where = str(root.resolve())
    return cache_folder("frames") / f"{root.resolve().name}-{blake2b(where.encode(), digest_size=4).hexdigest()}"


def _writable(root: Path) -> bool:
    with suppress(OSError):
        (root / FOLDER).mkdir(exist_ok=True)
        return os.access(root / FOLDER, os.W_OK)
    return False


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
