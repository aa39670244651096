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
    for i, episode in enumerate(dataset.episodes):
        first, last = dataset.episode_from[episode], dataset.episode_to[episode]
        for j, name in enumerate(names):
            content = _instructions(dataset, first, last) if name == TASK else _single(columns[name][first:last])
            digests[i, j] = np.frombuffer(_digest(content), np.uint8)
        starts[i] = start({name: columns[name][first] for name in observations if name != TASK}, observations)
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
    found = []
    for spans, episode in _spans(dataset, observations, action):
        order = np.argsort(spans)
        ranked = spans[order]
        twice, equal = np.zeros(len(ranked), bool), ranked[1:] == ranked[:-1]
        twice[1:] |= equal
        twice[:-1] |= equal
        once = order[~twice]
        # In the order of their hashes, the first of each episode: which is the same one in a shortened copy.
        _, first = np.unique(episode[once], return_index=True)
        found.append(spans[once[first]])
    return np.unique(np.concatenate(found))


def sharing(dataset: Dataset, known: Array, observations: Sequence[str], action: str = "action") -> Array:
    """(S,) bool: which selected episodes hold one of the `traces` (M,) of other episodes."""
    out = np.zeros(len(dataset.episodes), bool)
    for spans, episode in _spans(dataset, observations, action):
        out[episode[np.isin(spans, known)]] = True
    return out


def to_hex(hashes: Array) -> str:
    """Hashes one after another as one string of hexadecimal digits."""
    return np.asarray(hashes, ">u8").tobytes().hex()


def from_hex(text: str) -> Array:
    """What `to_hex` wrote; raises ValueError for anything else."""
    return np.frombuffer(bytes.fromhex(text), ">u8").astype(np.uint64)


def _spans(dataset: Dataset, observations: Sequence[str], action: str) -> Iterator[tuple[Array, Array]]:
    """Hashes of spans of SPAN frames, and the place of each one's episode in the selection: observed, then done."""
    lengths = dataset.episode_to[dataset.episodes] - dataset.episode_from[dataset.episodes]
    episode = np.repeat(np.arange(len(lengths)), lengths)
    stop = np.repeat(np.cumsum(lengths), lengths)
    begins = np.flatnonzero(np.arange(len(stop)) + SPAN <= stop)
    for names in filter(None, (sorted(name for name in observations if name != TASK), [action])):
        rows = _rows(dataset, names)
        total = np.zeros(len(begins), np.uint64)
        for i in range(SPAN):
            total = total * _STEP + rows[begins + i]
        total = _mixed(total)
        some = total < _SOME
        yield total[some], episode[begins[some]]


def _rows(dataset: Dataset, names: Sequence[str]) -> Array:
    """(n,) uint64: a hash of each selected frame (multilinear, Thorup 2015), a block at a time."""
    columns = dataset.floats(names)
    bits = np.random.PCG64(1)
    widths = [int(np.prod(columns[name].shape[1:], dtype=np.int64)) for name in names]
    factors = [bits.random_raw(width) | np.uint64(1) for width in widths]
    out, at = np.empty(len(dataset), np.uint64), 0
    for chosen in dataset.spans(BLOCK):
        total = np.zeros(chosen.stop - chosen.start, np.uint64)
        for name, factor in zip(names, factors, strict=True):
            part = _single(columns[name][chosen]).reshape(len(total), -1)
            total += part.view(np.uint32).astype(np.uint64) @ factor
        out[at : at + len(total)] = _mixed(total)
        at += len(total)
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
