"""Checks of what is stored: entries of features, and columns of an episode with the counters of every data set.

Shapes: T frames of the episode, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nextmove.config import nearest
from nextmove.data.depth import UNITS, check_depths, quantize
from nextmove.data.digits import refuse_lost
from nextmove.data.encode import DepthCodec, VideoCodec
from nextmove.data.errors import DataError
from nextmove.data.layout import DEFAULTS, Feature, parse_feature
from nextmove.data.stats import first_bad
from nextmove.data.tables import Array


def stored_entries(
    features: Mapping[str, Mapping[str, Any]], fps: float, video: VideoCodec
) -> dict[str, dict[str, Any]]:
    """The entries of info.json, those of every data set included; raises `DataError` for what no reader could use."""
    out: dict[str, dict[str, Any]] = {}
    for name, given in features.items():
        feature = parse_feature(name, given, "features")
        if name in DEFAULTS or "/" in name or not name:
            raise DataError(f"features: {name!r} is not allowed: made by the writer, empty or with a slash")
        if feature.dtype == "language":
            raise DataError(f"features: {name!r}: language columns can be read but not written")
        out[name] = {"dtype": feature.dtype, "shape": list(given["shape"]), "names": given.get("names")}
        if feature.is_camera:
            out[name] |= {"shape": list(feature.shape), "names": ["height", "width", "channels"]}
            out[name] |= _stored_camera(feature, fps, video)
        elif not 1 <= len(feature.shape) <= 5 or min(feature.shape) < 1:
            raise DataError(f"features: {name!r}: expected 1 to 5 positive sizes, found shape {list(feature.shape)}")
    return out | {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in DEFAULTS.items()}


def _stored_camera(camera: Feature, fps: float, video: VideoCodec) -> dict[str, Any]:
    """The `info` of a camera that is stored as video; raises `DataError` for images that cannot be stored."""
    height, width, channels = camera.shape
    if channels != (1 if camera.is_depth else 3):
        expected = "1 channel of a depth map" if camera.is_depth else "3 channels (1 with info.is_depth_map)"
        raise DataError(f"features: camera {camera.name!r}: expected {expected}, found {channels}")
    if camera.is_depth:
        check_depths(camera.name, camera.info)
        if not camera.is_video:
            raise DataError(
                f"features: camera {camera.name!r}: dtype: expected 'video' of a depth map, found {camera.dtype!r}"
            )
    elif not camera.is_video:
        return {}
    codec = DepthCodec(camera.info) if camera.is_depth else video
    codec.check(camera.name, height, width)
    return {"info": codec.info(height, width, fps)}


def checked(
    features: Mapping[str, Feature], columns: Mapping[str, Any], task: str | Sequence[str], fps: float
) -> tuple[dict[str, Any], list[str]]:
    """All features of an episode that counts from 0, and its distinct instructions; raises `DataError`.

    columns, task: as in `DatasetWriter.add_episode`. Cameras come back as functions giving an iterator of T frames.
    """
    given = [name for name in features if name not in DEFAULTS]
    for name in columns:
        if name not in given:
            raise DataError(f"unknown feature {name!r}{nearest(name, given)}; the set has {given}")
    for name in given:
        if name not in columns:
            raise DataError(f"feature {name!r} is missing from the episode{nearest(name, columns)}")
    length = _length({name: columns[name] for name in given}, task)
    ready = {name: _column(features[name], columns[name], length) for name in given}
    tasks = [task] * length if isinstance(task, str) else list(task)
    if len(tasks) != length or not all(isinstance(t, str) for t in tasks):
        raise DataError(f"task: expected one string or {length}, found {len(tasks)}")
    frame, distinct = np.arange(length), list(dict.fromkeys(tasks))
    counters = {
        "timestamp": (frame / fps).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.zeros(length, np.int64),
        "index": frame,
        "task_index": np.array([distinct.index(t) for t in tasks]),
    }
    return {**ready, **counters}, distinct


def _length(columns: Mapping[str, Any], task: str | Sequence[str]) -> int:
    sizes = {name: len(values) for name, values in columns.items() if hasattr(values, "__len__")}
    if not sizes and not isinstance(task, str):
        sizes["task"] = len(task)
    if not sizes:
        raise DataError("the number of frames is unknown: give one column with a length, or one task a frame")
    first = next(iter(sizes))
    for name, size in sizes.items():
        if size != sizes[first]:
            raise DataError(f"feature {name!r} has {size} frames, {first!r} has {sizes[first]}")
    if not sizes[first]:
        raise DataError("the episode has no frame")
    return sizes[first]


def _column(feature: Feature, values: Any, length: int) -> Any:
    """A checked column: an array, a list of strings, or a function giving the frames of a camera."""
    if feature.is_camera:
        return _frames(feature, values, length)
    if feature.dtype == "string":
        texts = list(values)
        wrong = next((i for i, text in enumerate(texts) if not isinstance(text, str)), None)
        if wrong is not None:
            raise DataError(f"feature {feature.name!r}: frame {wrong}: expected a string, found {texts[wrong]!r}")
        return texts
    array = np.asarray(values)
    if array.shape not in {(length, *feature.item_shape), (length, *feature.shape)}:
        expected = (length, *feature.item_shape)
        raise DataError(f"feature {feature.name!r}: expected shape {expected}, found {array.shape}")
    if not np.can_cast(array.dtype, feature.dtype, "same_kind"):
        raise DataError(f"feature {feature.name!r}: expected dtype {feature.dtype}, found {array.dtype}")
    given = array
    with np.errstate(over="ignore"):  # What does not fit becomes infinite and is refused below.
        array = array.astype(feature.dtype)
    refuse_lost(given, array, f"feature {feature.name!r}")
    if array.dtype.kind in "iu" and not np.array_equal(given, array):
        raise DataError(f"feature {feature.name!r}: values do not fit {feature.dtype}")
    array = array.reshape(length, *feature.item_shape)
    bad = first_bad(array)
    if bad is not None:
        raise DataError(f"feature {feature.name!r}: frame {bad} is not finite: {array[bad]}")
    return array


def _frames(feature: Feature, values: Iterable[Array], length: int) -> Callable[[], Iterator[Array]]:
    unit = feature.info.get("depth_unit") if feature.is_depth else None
    kinds = UNITS[unit] if unit else ("uint8",)
    expected = " or ".join(kinds) + (f" of depth_unit {unit!r}" if unit else "")

    def frames() -> Iterator[Array]:
        number = -1
        for number, value in enumerate(values):
            frame = np.asarray(value)
            if frame.shape != feature.shape or frame.dtype.name not in kinds:
                raise DataError(
                    f"camera {feature.name!r}: frame {number}: expected {feature.shape} {expected}, "
                    f"found {frame.shape} {frame.dtype}"
                )
            yield quantize(frame, feature.info) if feature.is_depth else np.ascontiguousarray(frame)
        if number + 1 != length:
            raise DataError(f"camera {feature.name!r}: expected {length} frames, found {number + 1}")

    return frames
