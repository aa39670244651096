"""Frames into mp4 files, and mp4 files into longer ones without encoding again.

Shapes: H height, W width.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from nextmove.data.depth import depth_settings
from nextmove.data.errors import DataError
from nextmove.data.tables import Array
from nextmove.host.scheduling import keeper


@dataclass(frozen=True)
class VideoCodec:
    """How cameras are stored: LeRobot's defaults, AV1 with every second frame a key frame."""

    codec: Literal["libsvtav1", "h264"] = "libsvtav1"
    gop: int = 2
    """Distance of key frames: the frames that random access decodes at most."""
    crf: int = 30
    """Quality, lower is better."""
    preset: str = ""
    """Effort; empty means 12 for libsvtav1 and veryfast for h264."""
    threads: int = 0
    """Threads of one encoder; 0 lets it choose."""
    pixels = "rgb24", "yuv420p"
    """How a frame comes, and how it is stored."""

    def options(self) -> dict[str, str]:
        """The encoder's options."""
        common = {"g": str(self.gop), "crf": str(self.crf)}
        if self.codec == "h264":
            # B frames would shift the times of the first frame and make pts and dts differ.
            threads = {"threads": str(self.threads)} if self.threads else {}
            return {**common, "preset": self.preset or "veryfast", "bf": "0", **threads}
        lanes = f":lp={self.threads}" if self.threads else ""
        return {**common, "preset": self.preset or "12", "svtav1-params": f"fast-decode=0{lanes}"}

    def check(self, camera: str, height: int, width: int) -> None:
        """Raises `DataError` for sizes that cannot be stored: odd ones (4:2:0 video) and those below the least."""
        least = 4 if self.codec == "libsvtav1" else 2
        if height % 2 or width % 2 or min(height, width) < least:
            near = " x ".join(str(max(least, side + side % 2)) for side in (height, width))
            raise DataError(
                f"{camera}: video needs an even height and width of at least {least}, found {height} x {width}; "
                f"use {near}, or dtype 'image'"
            )

    def info(self, height: int, width: int, fps: float) -> dict[str, Any]:
        """The `info` entry of a camera."""
        preset: int | str = self.options()["preset"]
        own: dict[str, Any] = {
            "video.codec": "h264" if self.codec == "h264" else "av1",
            "video.pix_fmt": "yuv420p",
            "video.channels": 3,
            "video.g": self.gop,
            "video.crf": self.crf,
            "video.preset": int(preset) if str(preset).isdigit() else preset,
            "video.extra_options": {},
            "is_depth_map": False,
        }
        return _info(height, width, fps) | own


@dataclass(frozen=True)
class DepthCodec:
    """How depth maps are stored: LeRobot's defaults, 12-bit codes in HEVC without loss."""

    depths: Mapping[str, Any]
    """The camera's `info`, which says what the codes are."""
    codec = "libx265"
    pixels = "gray12le", "gray12le"

    def options(self) -> dict[str, str]:
        """The encoder's options; without B frames, as in colour."""
        return {"g": "2", "bf": "0", "x265-params": "lossless=1:log-level=none"}

    def check(self, camera: str, height: int, width: int) -> None:
        """Raises `DataError` for sizes that the encoder refuses."""
        if min(height, width) < 16:
            raise DataError(f"{camera}: depth needs a height and width of at least 16, found {height} x {width}")

    def info(self, height: int, width: int, fps: float) -> dict[str, Any]:
        """The `info` entry of a camera."""
        own: dict[str, Any] = {
            "video.codec": "hevc",
            "video.pix_fmt": "gray12le",
            "video.channels": 1,
            "video.g": 2,
            "video.crf": 30,
            "video.preset": None,
            "video.extra_options": {"x265-params": "lossless=1"},
            "is_depth_map": True,
        }
        return _info(height, width, fps) | own | depth_settings(self.depths)


Codec = VideoCodec | DepthCodec


def _info(height: int, width: int, fps: float) -> dict[str, Any]:
    """What every camera's `info` says alike."""
    return {
        "video.height": height,
        "video.width": width,
        "video.fps": int(fps) if fps == int(fps) else fps,
        "has_audio": False,
        "video.fast_decode": 0,
        "video.video_backend": "pyav",
    }


def rate(fps: float) -> Fraction:
    """Frames a second as a fraction that containers can hold."""
    return Fraction(fps).limit_denominator(1001)


def encode_video(path: Path, frames: Iterable[Array], fps: float, codec: Codec) -> None:
    """Write (H, W, 3) uint8 frames, or (H, W, 1) codes of depths, as one mp4 whose k-th frame is shown at k / fps.

    Raises `DataError` for sizes that video cannot hold, and for what the encoder refuses.
    """
    import av

    os.environ.setdefault("SVT_LOG", "1")  # Else the encoder prints a page of settings for every episode.
    keep = keeper()
    try:
        with av.open(str(path), "w", format="mp4") as out:
            stream: Any = None
            for number, frame in enumerate(frames):
                if stream is None:
                    stream = _stream(out, path, frame, fps, codec)
                pixels = frame[..., 0] if frame.shape[2] == 1 else frame
                image = av.VideoFrame.from_ndarray(pixels, format=codec.pixels[0])
                image.pts, image.time_base = number, 1 / rate(fps)
                out.mux(stream.encode(image))
                if number == 0:
                    keep()  # The encoder, which has its threads now, would make them and this one real-time threads.
            if stream is not None:
                out.mux(stream.encode(None))
    except av.FFmpegError as problem:
        raise DataError(f"{path}: {codec.codec} cannot encode these frames ({problem})") from problem
    finally:
        keep()


def _stream(out: Any, path: Path, frame: Array, fps: float, codec: Codec) -> Any:
    height, width = frame.shape[:2]
    codec.check(path.stem, height, width)
    stream = out.add_stream(codec.codec, rate=rate(fps), options=codec.options())
    stream.width, stream.height, stream.pix_fmt = width, height, codec.pixels[1]
    return stream


def join_videos(parts: Sequence[Path], lengths: Sequence[int], fps: float, path: Path) -> None:
    """Copy the packets of mp4 files of `lengths` frames one after the other into one file, index in front."""
    import av

    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as out:
        stream: Any = None
        before = 0
        for part, length in zip(parts, lengths, strict=True):
            with av.open(str(part)) as source:
                track: Any = source.streams.video[0]
                if stream is None:
                    stream = out.add_stream_from_template(template=track, opaque=True)
                    stream.time_base = track.time_base
                _copy(source, track, out, stream, round(before / rate(fps) / track.time_base))
            before += length


def _copy(source: Any, track: Any, out: Any, stream: Any, shift: int) -> None:
    for packet in source.demux(track):
        if packet.dts is None:
            continue
        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
        packet.stream = stream
        out.mux(packet)


def encode_png(frame: Array) -> bytes:
    """A (H, W, 3) uint8 image as PNG."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(frame).save(out, "PNG", compress_level=1)
    return out.getvalue()
