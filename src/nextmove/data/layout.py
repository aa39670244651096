"""The layout of a LeRobot data set: info.json, features, and the file templates of v3.0 and v2.x."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nextmove.config import nearest
from nextmove.data.errors import DataError
from nextmove.data.image_shape import image_shape
from nextmove.data.names import dimension_names, flat_names
from nextmove.host import files
from nextmove.host.found import found

DEFAULTS: dict[str, str] = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Features of every data set, each one number a frame, never given by the caller."""

NUMBERS = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
)  # fmt: skip
DTYPES = (*NUMBERS, "string", "language", "image", "video")
"""What a feature may be stored as."""

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
V2_DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V2_VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
STAGING = ".staging"
"""Folder of an unfinished writer inside the data set; readers never look into it."""


@dataclass(frozen=True)
class Feature:
    """One entry of `features`: `shape` excludes time; cameras are (height, width, channels) whatever the file says."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    info: Mapping[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    """Of the dimensions, where the feature is a vector and has one for each."""
    remark: str = ""
    """What is wrong with the entry and could be made out all the same."""

    @property
    def is_video(self) -> bool:
        """Whether the frames lie in mp4 files."""
        return self.dtype == "video"

    @property
    def is_camera(self) -> bool:
        """Whether the feature is an image a frame."""
        return self.dtype in ("video", "image")

    @property
    def is_depth(self) -> bool:
        """Whether the image is a depth map."""
        return self.is_camera and bool(self.info.get("is_depth_map", self.info.get("video.is_depth_map", False)))

    @property
    def is_colour(self) -> bool:
        """Whether the image shows colours."""
        return self.is_camera and not self.is_depth

    @property
    def is_number(self) -> bool:
        """Whether the feature is an array of numbers or booleans a frame."""
        return self.dtype in NUMBERS

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one frame's value: a feature of shape (1,) is one number."""
        return () if self.shape == (1,) else self.shape


def parse_feature(name: str, entry: Any, where: str) -> Feature:
    """The feature `name` from its LeRobot entry; raises `DataError` naming the key that is missing or wrong."""
    if not isinstance(entry, Mapping) or "dtype" not in entry:
        raise DataError(f"{where}: feature {name!r} has no 'dtype', found {entry!r}")
    dtype = str(entry["dtype"])
    if dtype not in DTYPES:
        hint = nearest(dtype, DTYPES)
        raise DataError(f"{where}: feature {name!r}: dtype: expected one of {', '.join(DTYPES)}, found {dtype!r}{hint}")
    shape = entry.get("shape")
    if not isinstance(shape, Sequence) or isinstance(shape, str) or not all(isinstance(n, int) for n in shape):
        raise DataError(f"{where}: feature {name!r} needs a 'shape' list of integers, found {shape!r}")
    info = entry.get("info") or entry.get("video_info") or {}
    if not isinstance(info, Mapping):
        raise DataError(f"{where}: feature {name!r}: info: expected an object, found {info!r:.60}")
    names = dimension_names(entry.get("names"), shape[0]) if len(shape) == 1 else ()
    feature = Feature(name, dtype, tuple(shape), dict(info), names)
    if not feature.is_camera:
        own = flat_names(entry.get("names"))
        unused = len(shape) == 1 and not names and len(own) > 1
        remark = f"info.json: names: expected {shape[0]}, found {len(own)}, which are not used" if unused else ""
        return replace(feature, remark=remark)
    if len(shape) != 3:
        raise DataError(f"{where}: camera {name!r} needs 3 dimensions, found shape {list(shape)}")
    sizes, remark = image_shape(shape, entry.get("names"), info)
    return Feature(name, dtype, sizes, feature.info, remark=remark)


@dataclass(frozen=True)
class Info:
    """What `meta/info.json` says; `raw` is the file itself."""

    root: Path
    version: str
    fps: float
    features: Mapping[str, Feature]
    raw: Mapping[str, Any]

    @property
    def is_v2(self) -> bool:
        """Whether every episode has files of its own (v2.0, v2.1)."""
        return self.version.startswith("v2.")

    @property
    def chunks_size(self) -> int:
        """Files (v3) or episodes (v2) in one chunk folder."""
        return int(self.raw.get("chunks_size", 1000))

    def feature(self, name: str) -> Feature:
        """The feature `name`; raises `DataError` with the nearest name."""
        if name not in self.features:
            raise DataError(f"{self.root}: unknown feature {name!r}{nearest(name, self.features)}")
        return self.features[name]

    def path(self, key: str, default: str, **fields: object) -> Path:
        """The file that the template `key` of info.json (or `default`) names."""
        template = str(self.raw.get(key) or default)
        try:
            return self.root / template.format(**fields)
        except (KeyError, IndexError, ValueError) as problem:
            raise DataError(f"{self.root}/meta/info.json: {key} {template!r} cannot be filled in: {problem}") from None


def read_json(path: Path) -> Any:
    """The content of a JSON file; raises `DataError` naming the file when it is missing or broken."""
    try:
        return files.read_json(path, DataError)
    except FileNotFoundError:
        raise DataError(f"{path}: file is missing") from None
    except OSError as problem:
        raise DataError(f"{path}: expected a file in JSON ({problem})") from None


def read_json_lines(path: Path, needed: Mapping[str, type]) -> list[dict[str, Any]]:
    """The records of a JSON Lines file, each an object that holds `needed`; raises `DataError` naming file and line."""
    if not path.exists():
        raise DataError(f"{path}: file is missing")
    records = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as problem:
            raise DataError(f"{path}: line {number} is not valid JSON ({problem})") from None
        if not isinstance(record, dict):
            raise DataError(f"{path}: line {number}: expected an object, found {record!r:.60}")
        for key, kind in needed.items():
            if kind is int and isinstance(record.get(key), float) and record[key].is_integer():
                record[key] = int(record[key])
            if not isinstance(record.get(key), kind) or isinstance(record[key], bool):
                found = f"found {record[key]!r:.60}" if key in record else "found no such key"
                raise DataError(f"{path}: line {number}: {key}: expected {kind.__name__}, {found}")
        records.append(record)
    return records


def read_text(path: Path) -> str:
    """The content of a text file; raises `DataError` naming it where it is missing, no file, or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: file is missing") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path}: expected a text file in UTF-8 ({problem})") from None


def read_info(root: Path) -> Info:
    """`meta/info.json` of a v2.0, v2.1 or v3.x data set; raises `DataError` for other versions and missing keys."""
    path = root / "meta" / "info.json"
    if (root / STAGING / "commit.json").exists():
        raise DataError(f"{root}: a writer stopped while it finalized; DatasetWriter(..., resume=True) finishes it")
    if not path.exists() and (root / STAGING).exists():
        raise DataError(f"{root}: never finalized; DatasetWriter(..., resume=True).finalize() completes it")
    if not path.exists():
        raise DataError(f"{path}: file is missing; {found(root, 'dataset')}")
    raw = read_json(path)
    if not isinstance(raw, Mapping):
        raise DataError(f"{path}: expected an object, found {type(raw).__name__}")
    missing = [key for key in ("codebase_version", "fps", "features") if key not in raw]
    if missing:
        raise DataError(f"{path}: missing key {missing[0]!r}")
    version = str(raw["codebase_version"])
    if not version.startswith(("v2.", "v3.")):
        raise DataError(f"{path}: codebase_version: expected v2.0, v2.1 or v3.x, found {version!r}")
    if not isinstance(raw["fps"], int | float) or isinstance(raw["fps"], bool) or not 0 < raw["fps"] < math.inf:
        raise DataError(f"{path}: fps: expected a positive number, found {raw['fps']!r}")
    if not isinstance(raw["features"], Mapping):
        raise DataError(f"{path}: features: expected an object by name, found {type(raw['features']).__name__}")
    size = raw.get("chunks_size", 1000)
    if not isinstance(size, int) or size < 1:
        raise DataError(f"{path}: chunks_size: expected a whole number of at least 1, found {size!r}")
    features = {name: parse_feature(name, entry, str(path)) for name, entry in raw["features"].items()}
    return Info(root, version, raw["fps"], features, raw)
