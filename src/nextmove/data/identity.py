"""Identity of a data set by content: hashes of its episodes, independent of path and order.

Numbers are taken as float32, which is what models see, so that other files and wider numbers of the same episodes are
the same episodes. Other instructions make other episodes for a policy that reads `task`, though their first frames and
spans stay what they are. Edited copies (cut, or with other observations) share spans of frames with their source.
Shapes: S selected episodes, n their frames, M traces, D width of a feature.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from nextmove.contracts import TASK
from nextmove.data.dataset import Dataset
from nextmove.data.errors import DataError
from nextmove.data.tables import Array
from nextmove.host.threads import cores, threaded

BYTES = 8
"""Of a hash: two of ten million episodes agree by chance with a probability of 3e-6."""
SPAN = 8
"""Frames that have to agree, one after another, before two episodes are taken to share them."""
BLOCK = 2**14
_SOME = np.uint64(2**62)
"""Spans with smaller hashes, a quarter, are looked at."""
_STEP = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class Identity:
    """Content hashes as uint64.

    episodes: (S,) of each selected episode; starts: (S,) of the first frame's observations; features: hexadecimal, of
    all of them in order, by feature.
    """

    episodes: Array
    starts: Array
    features: Mapping[str, str]


def identify(dataset: Dataset, observations: Sequence[str], action: str = "action") -> Identity:
    """Identity of the selected episodes by these columns, numbers or `task`; reads each once and copies an episode.

    Where `task` is observed, raises `DataError` for a frame without an instruction.
    """
    names = [*sorted(observations), action]
    columns = dataset.floats([name for name in names if name != TASK])
    digests = np.empty((len(dataset.episodes), len(names), BYTES), np.uint8)
    starts = np.empty(len(dataset.episodes), np.uint64)

    def look(some: Array) -> None:
        for i in some.tolist():
            first, last = dataset.episode_from[dataset.episodes[i]], dataset.episode_to[dataset.episodes[i]]
            for j, name in enumerate(names):
                content = _instructions(dataset, first, last) if name == TASK else _single(columns[name][first:last])
                digests[i, j] = np.frombuffer(_digest(content), np.uint8)
            starts[i] = start({name: columns[name][first] for name in observations if name != TASK}, observations)

    threaded(look, np.array_split(np.arange(len(starts)), min(len(starts), cores())))
    episodes = np.array([_number(_digest(row.tobytes())) for row in digests], np.uint64)
    features = {name: _digest(digests[:, j].tobytes()).hex() for j, name in enumerate(names)}
    return Identity(episodes, starts, features)


def start(observation: Mapping[str, Any], names: Sequence[str]) -> int:
    """Hash of one frame's observations, each a number or (D,); instructions, which others may word, are left out."""
    parts = [_single(np.atleast_1d(observation[name])).tobytes() for name in sorted(names) if name != TASK]
    return _number(_digest(b"".join(parts)))


def whole(features: Mapping[str, str]) -> str:
    """One hash, hexadecimal, of a data set's hashes by feature."""
    return _digest("\n".join(f"{name} {value}" for name, value in sorted(features.items())).encode()).hex()


def hashed(values: Array | str) -> int:
    """Hash of a text, or of an array's shape and bytes."""
    if isinstance(values, str):
        return _number(_digest(values.encode()))
    found = blake2b(str(values.shape).encode(), digest_size=BYTES)
    found.update(np.ascontiguousarray(values).data)
    return _number(found.digest())


def passages(text: str, length: int = 64) -> Array:
    """Hashes (N - length + 1,) uint64 of all passages of so many characters, a power of two; none in a shorter text."""
    values = _mixed(np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64))
    width, factor = 1, int(_STEP)
    while width < length:
        values = values[:-width] * np.uint64(factor) + values[width:]
        width, factor = 2 * width, factor * factor % 2**64
    return _mixed(values)


def held_out(ids: Array, share: float, where: Path | str, unit: str) -> tuple[Array, tuple[str, ...]]:
    """(N,) bool: about this share, which is for tests, by content hash (N,) alone; and what has to be said of it.

    Where none falls to it, it is the one of the smallest hash. Raises `DataError` for fewer than two different ones.
    """
    if len(np.unique(ids)) < 2:
        raise DataError(f"{where}: expected at least 2 different {unit}s, found {len(np.unique(ids))}")
    held = ids < np.uint64(share * 2**64)
    if held.all():
        held = ids != ids.max()
    if held.any():
        return held, ()
    note = f"of so few {unit}s one is kept for tests, which may be another one after more are added"
    return ids == ids.min(), (note,)


def traces(dataset: Dataset, observations: Sequence[str], action: str = "action") -> Array:
    """(M,) uint64, sorted: by episode a span of frames, of its observations and of its actions, that no other shares.

    A span that comes twice (a robot at rest) says nothing about where it is from; an episode may have none.
    """
    # The smallest hashes of an episode are looked at first; nearly always one of them is its alone.
    few = max(1, int(_SOME) // max(1, len(dataset) // max(1, 64 * len(dataset.episodes))))
    found = []
    for names in _named(observations, action):
        rows = _rows(dataset, names)
        for below in (few, int(_SOME)):
            spans, episode = _spans(dataset, rows, below)
            first = _first_alone(spans, episode)
            if len(first) == len(dataset.episodes):
                break
        found.append(spans[first])
    return np.unique(np.concatenate(found))


def _first_alone(spans: Array, episode: Array) -> Array:
    """The place of each episode's smallest hash that comes once, which is the same one in a shortened copy."""
    order = np.argsort(spans)
    ranked = spans[order]
    twice, equal = np.zeros(len(ranked), bool), ranked[1:] == ranked[:-1]
    twice[1:] |= equal
    twice[:-1] |= equal
    once = order[~twice]
    _, first = np.unique(episode[once], return_index=True)
    out: Array = once[first]
    return out


def sharing(dataset: Dataset, known: Array, observations: Sequence[str], action: str = "action") -> Array:
    """(S,) bool: which selected episodes hold one of the `traces` (M,) of other episodes."""
    out = np.zeros(len(dataset.episodes), bool)
    for names in _named(observations, action):
        spans, episode = _spans(dataset, _rows(dataset, names), int(_SOME))
        out[episode[np.isin(spans, known)]] = True
    return out


def to_hex(hashes: Array) -> str:
    """Hashes one after another as one string of hexadecimal digits."""
    return np.asarray(hashes, ">u8").tobytes().hex()


def from_hex(text: str) -> Array:
    """What `to_hex` wrote; raises ValueError for anything else."""
    return np.frombuffer(bytes.fromhex(text), ">u8").astype(np.uint64)


def _named(observations: Sequence[str], action: str) -> Iterator[list[str]]:
    """The features whose spans are looked at together: those observed, if there are any, then those done."""
    return filter(None, (sorted(name for name in observations if name != TASK), [action]))


def _spans(dataset: Dataset, rows: Array, below: int) -> tuple[Array, Array]:
    """Hashes of spans of SPAN rows (n,) that are below a bound, and the place of each one's episode in the selection.

    A span's hash is that of a polynomial in _STEP whose coefficients are its rows' hashes.
    """
    end = np.cumsum(dataset.episode_to[dataset.episodes] - dataset.episode_from[dataset.episodes])

    def some(first: int) -> tuple[Array, Array]:
        total, width, factor = rows[first : first + BLOCK + SPAN - 1], 1, int(_STEP)
        while width < SPAN:  # of twice as many rows
            total = total[:-width] * np.uint64(factor) + total[width:]
            width, factor = 2 * width, factor * factor % 2**64
        total = _mixed(total)
        begins = np.flatnonzero(total < np.uint64(below))
        episode = np.searchsorted(end, begins + first, side="right")
        inside = begins + first + SPAN <= end[episode]
        return total[begins[inside]], episode[inside]

    parts = threaded(some, range(0, max(0, len(rows) - SPAN + 1), BLOCK))
    none = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    spans, episodes = zip(none, *parts, strict=True)
    return np.concatenate(spans), np.concatenate(episodes)


def _rows(dataset: Dataset, names: Sequence[str]) -> Array:
    """(n,) uint64: a hash of each selected frame (multilinear, Thorup 2015), a block at a time."""
    columns = dataset.floats(names)
    bits = np.random.PCG64(1)
    widths = [int(np.prod(columns[name].shape[1:], dtype=np.int64)) for name in names]
    factors = [bits.random_raw(width) | np.uint64(1) for width in widths]
    parts = list(dataset.spans(BLOCK))
    out, at = np.empty(len(dataset), np.uint64), np.cumsum([0, *(part.stop - part.start for part in parts)])

    def one(number: int) -> None:
        chosen = parts[number]
        total = np.zeros(chosen.stop - chosen.start, np.uint64)
        for name, factor in zip(names, factors, strict=True):
            part = _single(columns[name][chosen]).reshape(len(total), -1)
            total += part.view(np.uint32).astype(np.uint64) @ factor
        out[at[number] : at[number + 1]] = _mixed(total)

    threaded(one, range(len(parts)))
    return out


def _instructions(dataset: Dataset, first: int, last: int) -> bytes:
    """The instructions of the frames first to last, each with the number of frames in a row that it is for."""
    numbers = dataset.column("task_index")[first:last]
    begins = np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - 1))
    lengths = np.diff(begins, append=len(numbers))
    texts = [dataset.task(int(numbers[at]), f"row {first + at}: ") for at in begins]
    runs = groupby(zip(texts, lengths.tolist(), strict=True), key=lambda run: run[0])
    return json.dumps([(text, sum(length for _, length in run)) for text, run in runs]).encode()


def _mixed(values: Array) -> Array:
    """Every bit decides about every other (the finalizer of MurmurHash3, Appleby)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        values = (values ^ (values >> np.uint64(33))) * np.uint64(factor)
    return values ^ (values >> np.uint64(33))


def _single(values: Array) -> Array:
    """float32 in one piece of memory; 0 is written one way."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, np.float32) + np.float32(0)


def _digest(content: Any) -> bytes:
    return blake2b(content, digest_size=BYTES).digest()


def _number(digest: bytes) -> int:
    return int.from_bytes(digest, "big")
