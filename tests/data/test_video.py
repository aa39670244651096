"""Videos as other programs write them: every frame is the right one, however it is asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nextmove.data import DataError, Dataset, doctor, open_dataset
from nextmove.data.cameras import VideoCamera
from nextmove.data.watched import faults
from nextmove.host.scheduling import keeper

COUNT, FPS, CAMERA = 40, 10, "observation.images.top"
B = {"bf": "3", "g": "12", "b-adapt": "0", "crf": "10"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
QUIET = "log-level=none:crf=10:b-adapt=0:"
OPEN = "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0:crf=10"
LATE = [3000 + 100 * i for i in range(COUNT)]
UNEVEN = [100 * i + 20 * (i % 3) for i in range(COUNT)]

FORMS: dict[str, dict[str, Any]] = {
    "ordinary": {"options": B},
    "fragmented": {"options": B, "container": FRAGMENTS},
    "a fragment a frame": {"options": B, "container": {"movflags": "frag_every_frame+empty_moov+default_base_moof"}},
    "fragmented by key frames of two": {"options": {**B, "bf": "1", "g": "2"}, "container": FRAGMENTS},
    "no edit list": {"options": B, "container": {"use_editlist": "0"}},
    "hevc without edit list": {
        "codec": "libx265",
        "options": {"x265-params": f"{QUIET}bframes=4:keyint=5:min-keyint=1"},
        "container": {"use_editlist": "0"},
    },
    "open groups": {"options": {"x264-params": OPEN}},
    "open groups in fragments": {"options": {"x264-params": OPEN}, "container": FRAGMENTS},
    "refreshed bit by bit": {"options": {"x264-params": "intra-refresh=1:keyint=12:bframes=0:crf=10"}},
    "mpeg-4 part 2": {
        "codec": "mpeg4",
        "options": {"bf": "2", "g": "3", "qmin": "1", "qmax": "1"},
        "container": {"use_editlist": "0"},
    },
    "av1 in fragments": {
        "codec": "libsvtav1",
        "options": {"g": "8", "crf": "10", "preset": "12"},
        "container": FRAGMENTS,
    },
    "av1 in mkv": {"suffix": ".mkv", "codec": "libsvtav1", "options": {"g": "8", "crf": "10", "preset": "12"}},
    "vp9 in webm": {"suffix": ".webm", "codec": "libvpx-vp9", "options": {"g": "12", "crf": "10", "b": "0"}},
    "h264 in mkv": {"suffix": ".mkv", "options": B},
    "h264 in mpeg-ts": {"suffix": ".ts", "options": B},
    "motion jpeg in avi": {"suffix": ".avi", "codec": "mjpeg", "pixels": "yuvj420p"},
    "one key frame": {"options": {**B, "g": "400"}},
    "beginning at 3 s": {"options": B, "times": LATE},
    "beginning at 3 s in mkv": {"suffix": ".mkv", "options": B, "times": LATE},
    "sound beside": {"options": B, "container": FRAGMENTS, "sound": True},
    "10 bits": {"options": B, "pixels": "yuv420p10le"},
    "full range": {"options": B, "pixels": "yuvj420p"},
    "full colour, odd size": {"options": B, "pixels": "yuv444p", "size": (95, 97)},
    "odd size": {"codec": "libsvtav1", "options": {"crf": "10", "preset": "12"}, "size": (95, 97)},
    "rgb": {"codec": "libx264rgb", "options": B, "pixels": "rgb24"},
}


def grey(number: int, size: tuple[int, int]) -> np.ndarray:
    """A frame (H, W, 3) whose brightness is its number."""
    return np.full((size[1], size[0], 3), 6 * number, np.uint8)


def write_video(
    path: Path,
    *,
    codec: str = "libx264",
    options: Mapping[str, str] | None = None,
    container: Mapping[str, str] | None = None,
    pixels: str = "yuv420p",
    size: tuple[int, int] = (64, 64),
    times: list[int] | None = None,
    sound: bool = False,
    frames: list[np.ndarray] | None = None,
) -> None:
    """A video of COUNT frames at FPS, or at `times` in milliseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    keep = keeper()
    with av.open(str(path), "w", options=dict(container or {})) as out:
        stream: Any = out.add_stream(codec, rate=FPS, options=dict(options or {}))
        (stream.width, stream.height), stream.pix_fmt = size, pixels
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        audio: Any = out.add_stream("aac", rate=8000) if sound else None
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(frames[number] if frames else grey(number, size), format="rgb24")
            frame.pts, frame.time_base = (times[number], Fraction(1, 1000)) if times else (number, Fraction(1, FPS))
            out.mux(stream.encode(frame))
            if audio is not None:
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts, silence.time_base = 8000, 800 * number, Fraction(1, 8000)
                out.mux(audio.encode(silence))
        out.mux(stream.encode())
        if audio is not None:
            out.mux(audio.encode())
    keep()


def describe(root: Path, size: tuple[int, int] = (64, 64), suffix: str = ".mp4", begin: float = 0.0) -> Path:
    """The files of a v2.1 set of one episode around its video, stamped from `begin` in seconds."""
    (root / "data/chunk-000").mkdir(parents=True)
    (root / "meta").mkdir()
    steps = np.arange(COUNT)
    pair = pa.array([[float(i), 0.0] for i in steps], pa.list_(pa.float32()))
    zero = pa.array(np.zeros(COUNT, np.int64))
    table = pa.table(
        {
            "action": pair,
            "timestamp": pa.array((begin + steps / FPS).astype(np.float32)),
            "frame_index": pa.array(steps),
        }
        | {"episode_index": zero, "index": pa.array(steps), "task_index": zero}
    )
    pq.write_table(table, root / "data/chunk-000/episode_000000.parquet")
    one: dict[str, Any] = {"dtype": "int64", "shape": [1], "names": None}
    camera = {"dtype": "video", "shape": [size[1], size[0], 3], "names": ["height", "width", "channels"], "info": {}}
    info = {
        "codebase_version": "v2.1",
        "fps": FPS,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}" + suffix,
        "features": {
            "action": {"dtype": "float32", "shape": [2], "names": None},
            CAMERA: camera,
            "timestamp": {**one, "dtype": "float32"},
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), one),
        },
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "look"}) + "\n")
    line = {"episode_index": 0, "tasks": ["look"], "length": COUNT}
    (root / "meta/episodes.jsonl").write_text(json.dumps(line) + "\n")
    return root


def made(root: Path, *, suffix: str = ".mp4", begin: float = 0.0, **video: Any) -> Dataset:
    """A set of one episode with this video."""
    write_video(root / f"videos/chunk-000/{CAMERA}/episode_000000{suffix}", **video)
    return open_dataset(describe(root, video.get("size", (64, 64)), suffix, begin))


def numbers(dataset: Dataset, rows: Any) -> list[int]:
    """Which frames the camera shows at these rows."""
    shown = dataset.video(CAMERA).frames(np.asarray(rows)).mean((1, 2, 3)) / 6
    assert np.abs(shown - shown.round()).max() < 0.45
    return [int(n) for n in shown.round()]


@pytest.mark.parametrize("form", FORMS)
def test_every_frame_is_read_one_by_one_backwards_at_random_and_in_a_batch(form: str, tmp_path: Path) -> None:
    dataset = made(tmp_path, **FORMS[form])
    drawn = np.random.default_rng(0).integers(0, COUNT, 30)
    for order in (range(COUNT), range(COUNT - 1, -1, -1), drawn.tolist()):
        assert [numbers(dataset, [i])[0] for i in order] == list(order)
    batch = [39, 0, 13, 12, 11, 10, 24, 23, 1, 39]
    assert numbers(dataset, batch) == batch
    assert dataset.video(CAMERA).frames(np.array([0])).shape[1:] == dataset.layout.features[CAMERA].shape


@pytest.mark.parametrize("container", [{}, FRAGMENTS, {"use_editlist": "0"}])
def test_a_set_stamped_by_the_clock_of_its_video_is_read_by_it(tmp_path: Path, container: dict[str, str]) -> None:
    write_video(tmp_path / "probe.mp4", options=B, container=container, times=LATE)
    with av.open(str(tmp_path / "probe.mp4")) as file:
        begin = min(p.pts * float(p.time_base) for p in file.demux(video=0) if p.pts is not None)
    dataset = made(tmp_path / "set", options=B, container=container, times=LATE, begin=begin)
    assert numbers(dataset, range(COUNT)) == list(range(COUNT))


def test_episodes_that_share_a_fragmented_file_begin_where_their_table_says(tmp_path: Path) -> None:
    dataset = made(tmp_path, options=B, container=FRAGMENTS)
    clips, table = dataset.video(CAMERA).clips, dataset.table  # type: ignore[attr-defined]
    object.__setattr__(table, "start", np.array([0, 15]))
    object.__setattr__(table, "stop", np.array([15, COUNT]))
    object.__setattr__(clips, "file_of", np.zeros(2, np.int64))
    object.__setattr__(clips, "offset", np.array([0.0, 1.5]))
    dataset.column("timestamp")[15:] -= 1.5
    assert numbers(dataset, [15, 14, 39, 0]) == [15, 14, 39, 0]
    # The first episode of the file has been taken out of the tables; its frames are still there.
    object.__setattr__(table, "start", np.array([15]))
    object.__setattr__(table, "stop", np.array([COUNT]))
    object.__setattr__(clips, "file_of", np.zeros(1, np.int64))
    object.__setattr__(clips, "offset", np.array([1.5]))
    assert numbers(open_copy(dataset), [15, 39]) == [15, 39]


def open_copy(dataset: Dataset) -> Dataset:
    """The same set without open files."""
    import pickle

    return pickle.loads(pickle.dumps(dataset))


def test_frames_at_uneven_times_are_found_at_their_times_and_nowhere_else(tmp_path: Path) -> None:
    dataset = made(tmp_path, options=B, times=UNEVEN)
    dataset.column("timestamp")[:] = np.array(UNEVEN, np.float32) / 1000
    assert numbers(dataset, [39, 4, 5, 3]) == [39, 4, 5, 3]
    dataset.column("timestamp")[:] = np.arange(COUNT) / FPS
    with pytest.raises(DataError, match=r"has no frame at 0.100000 s: the nearest is 0.020000 s away"):
        numbers(dataset, [1])


def turned(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Asks players to map x, y to a x + c y, b x + d y (y points down), as phones do."""
    raw = bytearray(path.read_bytes())
    place = raw.index(b"tkhd") + 4 + 40
    for offset, value in zip((0, 4, 12, 16), matrix, strict=True):
        raw[place + offset : place + offset + 4] = (value << 16 & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("matrix", "turns"), [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1), ((1, 0, 0, 1), 0)]
)
def test_turned_videos_are_shown_upright(tmp_path: Path, matrix: tuple[int, int, int, int], turns: int) -> None:
    corner = np.zeros((64, 96, 3), np.uint8)
    corner[:16, :16] = 255  # above on the left, as stored
    shape = (64, 96) if turns % 2 else (96, 64)
    dataset = made(tmp_path, options=B, size=(96, 64), frames=[corner] * COUNT)
    turned(next(tmp_path.rglob("*.mp4")), matrix)
    info = tmp_path / "meta/info.json"
    info.write_text(info.read_text().replace("[64, 96, 3]", f"[{shape[1]}, {shape[0]}, 3]"))
    shown = open_dataset(tmp_path).video(CAMERA).frames(np.array([3]))[0]
    assert np.abs(shown.astype(float) - np.rot90(corner, turns)).mean() < 3
    # A set that describes its frames as they are stored, as LeRobot reads them, is taken at its word.
    info.write_text(info.read_text().replace(f"[{shape[1]}, {shape[0]}, 3]", "[64, 96, 3]"))
    if turns % 2:
        shown = open_dataset(tmp_path).video(CAMERA).frames(np.array([3]))[0]
        assert np.abs(shown.astype(float) - corner).mean() < 3
    assert len(dataset) == COUNT


def test_damage_inside_a_video_is_named_where_it_is_read_and_nowhere_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noisy = [rng.integers(0, 255, (64, 64, 3)).astype(np.uint8) for _ in range(COUNT)]
    dataset = made(tmp_path, options=B, frames=noisy)
    path = next(tmp_path.rglob("*.mp4"))
    with av.open(str(path)) as file:
        place, size = next(
            (p.pos, p.size) for p in file.demux(video=0) if p.pts and p.pts * p.time_base == Fraction(24, 10)
        )
    raw = bytearray(path.read_bytes())
    raw[place + 8 : place + size] = bytes(size - 8)
    path.write_bytes(raw)
    whole = [i for i in range(COUNT) if not 21 <= i < 36]
    for i in [*whole, *whole[::-1]]:
        dataset.video(CAMERA).frames(np.array([i]))
    pattern = rf"{path.name}: frame 24 of 40 cannot be decoded, .*; 'observation.images.top', episode 0, frame 24"
    for _ in range(2):
        with pytest.raises(DataError, match=pattern):
            dataset.video(CAMERA).frames(np.array([3, 24, 26]))


@pytest.mark.parametrize(("step", "rate"), [(200, 5), (50, 20)], ids=["slower", "faster"])
def test_a_video_of_another_rate_is_named_with_both_rates(tmp_path: Path, step: int, rate: int) -> None:
    dataset = made(tmp_path, times=[step * number for number in range(COUNT)])
    message = f"no frame at .*; the video shows {rate} frames a second, info.json says fps {FPS}"
    with pytest.raises(DataError, match=message):
        dataset.video(CAMERA).frames(np.arange(COUNT))
    (finding,) = (found for found in doctor(dataset) if found.check == "video")
    assert finding.level == "error"
    assert re.search(message, str(finding))


def test_a_faster_video_that_has_all_frames_is_a_warning(tmp_path: Path) -> None:
    dataset = made(tmp_path, times=[50 * number for number in range(COUNT)])
    object.__setattr__(dataset.table, "stop", np.array([COUNT // 2]))
    dataset.episode_to = dataset.table.stop
    assert numbers(dataset, range(COUNT // 2)) == list(range(0, COUNT, 2))
    camera = dataset.video(CAMERA)
    assert isinstance(camera, VideoCamera)
    ((level, episode, why),) = faults(dataset, camera, 0)
    assert (level, episode) == ("warning", None)
    assert why.endswith(
        f"has a frame at all times asked for; the video shows 20 frames a second, info.json says fps {FPS}"
    )
