"""Our answers against those that LeRobot 0.6.1 gave on its own data set, and on the same frames in the v2.1 layout."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextmove.data import exact_stats, open_dataset

GOLDEN = Path(__file__).parents[1] / "golden"
V3, V21 = GOLDEN / "lerobot_dataset_v3", GOLDEN / "lerobot_dataset_v21"


def parity() -> Any:
    """The benchmark's module."""
    path = Path(__file__).parents[2] / "benchmarks" / "dataset_parity.py"
    spec = importlib.util.spec_from_file_location("dataset_parity", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("root", [V3 / "dataset", V21 / "dataset"], ids=["v3.0", "v2.1"])
def test_every_answer_of_lerobot_is_reproduced(root: Path) -> None:
    found = parity().compare(V3, root)
    assert found["missing"] == []
    assert found["max_abs_diff"] == 0.0
    assert found["max_abs_diff_images"] <= 2 / 255


def test_the_comparison_notices_one_wrong_answer(tmp_path: Path) -> None:
    expected = json.loads((V3 / "expected.json").read_text())
    expected["queries"] = expected["queries"][:1]
    expected["queries"][0]["task"] = "another"
    (tmp_path / "expected.json").write_text(json.dumps(expected))
    shutil.copy(V3 / "expected.safetensors", tmp_path)
    assert parity().compare(tmp_path, V3 / "dataset")["max_abs_diff"] == 1.0
    expected["queries"][0]["id"] = "q01"
    (tmp_path / "expected.json").write_text(json.dumps(expected))
    assert parity().compare(tmp_path, V3 / "dataset")["max_abs_diff_images"] > 7 / 255


def test_exact_statistics_agree_with_those_stored_beside_the_golden_answers() -> None:
    expected = json.loads((V3 / "expected.json").read_text())["exact_stats"]
    found = exact_stats(open_dataset(V3 / "dataset"), expected)
    for name, entry in expected.items():
        for key, values in entry.items():
            np.testing.assert_allclose(found[name][key], values, rtol=1e-12, atol=1e-12)


def test_v21_statistics_are_merged_from_the_episodes() -> None:
    stats, exact = (open_dataset(V21 / "dataset").stats, exact_stats(open_dataset(V21 / "dataset")))
    np.testing.assert_allclose(stats["action"]["mean"], exact["action"]["mean"], rtol=1e-5)
    np.testing.assert_allclose(stats["action"]["std"], exact["action"]["std"], rtol=1e-5)
    assert "q01" not in stats["action"]
    assert stats["action"]["count"] == 98
