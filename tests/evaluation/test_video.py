"""Videos that decode to what went in."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from nextmove.evaluation.video import mp4


def frames(count=12, height=50, width=90):
    video = np.zeros((count, height, width, 3), np.uint8)
    for i in range(count):
        video[i, :, : width // 2] = (250, 10 * i, 0)
    return list(video)


def test_mp4_plays_everywhere_and_keeps_its_colours():
    data = mp4(frames(), fps=10, size=64)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (64, 36)
        assert stream.average_rate == 10
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(shown) == 12
    assert np.abs(shown[6][18, 10].astype(int) - [250, 60, 0]).max() < 25
    assert shown[6][18, 60].max() < 25


def test_mp4_repeats_itself():
    assert mp4(frames(), fps=10) == mp4(frames(), fps=10)


def test_fractional_rates_are_kept():
    with av.open(io.BytesIO(mp4(frames(3), fps=7.5, size=32))) as container:
        assert container.streams.video[0].average_rate == pytest.approx(7.5)


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="frames: expected at least one"):
        mp4([], fps=10)
    with pytest.raises(ValueError, match=r"expected uint8 \(height, width, 3\), found float64 \(4, 4\)"):
        mp4([np.zeros((4, 4))], fps=10)
