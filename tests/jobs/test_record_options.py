"""What `record` is asked for is looked at before anything is written, and what waits there is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nextmove import data, jobs
from nextmove.config import ConfigError
from nextmove.host.found import found


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"seed": -4}, "seed: expected at least 0, found -4"),
        ({"noise": -1.0}, "noise: expected 0 or more, found -1"),
        ({"noise": float("nan")}, "noise: expected 0 or more, found nan"),
        ({"noisy_share": 1.5}, "noisy_share: expected 0 to 1, found 1.5"),
        ({"episodes": 0}, "episodes: expected at least 1, found 0"),
        ({"workers": -1}, "workers: expected at least 0, found -1"),
    ],
)
def test_numbers_out_of_bounds_leave_nothing_behind(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        jobs.record("pusht", out=tmp_path / "set", **{"episodes": 1, "workers": 0} | asked)
    assert not list(tmp_path.iterdir())


def test_what_was_recorded_is_said_and_that_it_was_there_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for before in ("", "recorded before as asked for now, nothing to do: "):
        root = jobs.record("pusht", out=tmp_path / "set", episodes=1, workers=0)
        frames = len(data.open_dataset(root))
        assert capsys.readouterr().out == f"{root}: {before}1 demonstration, {frames} frames at 10 Hz\n"


def test_a_recording_that_has_not_ended_is_named_in_place_of_its_data_set(tmp_path: Path) -> None:
    (tmp_path / "set.recording").mkdir()
    assert "set.recording, a recording that has not ended" in found(tmp_path / "set", "dataset")
    assert found(tmp_path / "other", "dataset") == f"there is no folder {tmp_path / 'other'}"
