"""Data sets that the tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.data.sets import CAMERAS, FEATURES, LENGTHS, with_cameras, write_numbers

from nextmove.data import DatasetWriter


@pytest.fixture(scope="session")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set without cameras (not to be written to)."""
    return write_numbers(tmp_path_factory.mktemp("numbers") / "set")


@pytest.fixture(scope="session")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with a video and an image camera in several files (not to be written to)."""
    root = tmp_path_factory.mktemp("filmed") / "set"
    small = {"data_files_size_in_mb": 0.02, "video_files_size_in_mb": 0.003, "chunks_size": 2}
    writer = DatasetWriter(root, FEATURES | CAMERAS, 10, "arm", **small)
    for episode, length in enumerate(LENGTHS):
        writer.add_episode(with_cameras(length, episode), ["first", "then"] * (length // 2) + ["first"] * (length % 2))
    return writer.finalize()
