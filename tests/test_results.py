"""Measured numbers find their way into docs/data."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "results.py"


@pytest.fixture
def results(tmp_path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("results", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.DATA = tmp_path / "data"
    return module


def line(**facts: Any) -> dict[str, Any]:
    return {"episodes": [{"seed": 7, "success": True}, {"seed": 8, "success": False}], "facts": facts}


def test_kept_lines_stay_of_their_day_and_machine(results: Any, tmp_path: Path) -> None:
    report, made = tmp_path / "report.json", {"versions": {}, "machine": {"processor": "quill"}}
    head = {"title": "t", "command": "c", "note": None}

    def keep(**policies: Any) -> dict[str, Any]:
        report.write_text(json.dumps({**made, "policies": policies}))
        results.keep(report, "compare-100", head, True, 100)
        return json.loads((results.DATA / "compare-100.json").read_text())["policies"]

    own = {"date": "2001-01-01", "machine": {"processor": "abacus"}, "demonstrations": 100}
    found = keep(first=line(**own), other=line(**own | {"demonstrations": 25}), second=line(demonstrations=100))
    assert found.keys() == {"first", "second"}
    assert (found["first"]["date"], found["first"]["machine"]["processor"]) == ("2001-01-01", "abacus")
    assert found["second"]["machine"]["processor"] == "quill"
    made["machine"] = {"processor": "pen"}
    dated = {"date": "2001-01-02", "demonstrations": 100}
    found = keep(first=line(**dated), second=line(demonstrations=100), third=line(**own))
    assert [found[name]["machine"]["processor"] for name in ("first", "second", "third")] == ["abacus", "pen", "abacus"]
    assert found["first"]["date"] == "2001-01-02"
    assert [c["only_a"] for c in json.loads((results.DATA / "compare-100.json").read_text())["comparisons"]] == [0] * 3
    with pytest.raises(SystemExit, match="expected lines of 100 demonstrations, found none"):
        keep(other=line(demonstrations=25))
