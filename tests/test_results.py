"""Measured numbers find their way into docs/data."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks import kept_table

SCRIPT = Path(__file__).parents[1] / "scripts" / "results.py"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
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


def test_the_simulator_that_made_figures_stands_under_their_heading(results: Any, tmp_path: Path) -> None:
    report, made = tmp_path / "report.json", {"versions": {}, "machine": {"processor": "quill"}}
    old, new = ({"simulator": {"packages": {"bulbs": version, "wires": "3"}}} for version in ("1", "2"))
    policies = {"first": line(**old), "second": line(**new), "elsewhere": line()}
    report.write_text(json.dumps({**made, "policies": policies}))
    results.keep(report, "lamps", {"title": "t", "command": "c", "note": None}, False)
    kept = json.loads((results.DATA / "lamps.json").read_text())
    assert kept["policies"]["second"]["simulator"] == {"packages": {"bulbs": "2", "wires": "3"}}
    assert results.simulators(kept) == ["bulbs 1 and 2, wires 3"]
    assert results.simulators(TABLE) == []
    shown = results.section({**TABLE, "columns": ["legs"], "rows": [[2]], **old})
    assert shown.splitlines()[2] == "`walk` · 2001-01-01 · abacus · bulbs 1, wires 3"


def test_a_benchmarks_table_says_which_simulator_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_table, "DATA", tmp_path)
    monkeypatch.setattr("nextmove.sim.versions.version", {"metaworld": "3", "mujoco": "4", "gymnasium": "5"}.get)
    given: dict[str, Any] = {"title": "t", "command": "c", "note": "", "columns": ["a"], "rows": [[1]]}
    kept_table.keep("played", **given, simulated=["metaworld/reach"])
    kept_table.keep("plain", **given)
    played, plain = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("played", "plain"))
    assert played["simulator"] == {"packages": {"metaworld": "3", "mujoco": "4", "gymnasium": "5"}}
    assert "simulator" not in plain
    assert plain.keys() == played.keys() - {"simulator"}


TABLE = {"title": "Walks", "command": "walk", "note": "", "date": "2001-01-01", "machine": "abacus"}
HOLDS = "<!-- measured:walks -->\n<!-- /measured -->\n"


@pytest.fixture
def house(results: Any, tmp_path: Path) -> Any:
    """The script over a repository of one table and two pages with a place for it."""
    results.ROOT, results.MEASURED = tmp_path, tmp_path / "measured.json"
    results.DATA = tmp_path / "docs" / "data"
    for folder in (results.DATA, tmp_path / "docs" / "systems", tmp_path / "docs" / "pictures"):
        folder.mkdir(parents=True, exist_ok=True)
    (results.DATA / "walks.json").write_text(json.dumps({**TABLE, "columns": ["legs", "m"], "rows": [[2, 7], [4, 9]]}))
    (tmp_path / "README.md").write_text(f"Before.\n{HOLDS}After.\n")
    (tmp_path / "docs" / "systems" / "walk.md").write_text(HOLDS)
    return results


def run(results: Any, monkeypatch: pytest.MonkeyPatch, command: str) -> int:
    monkeypatch.setattr("sys.argv", ["results.py", command])
    return int(results.main())


def test_pages_are_written_from_data_and_another_word_in_them_is_found(
    house: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(house, monkeypatch, "check") == 1
    assert run(house, monkeypatch, "write") == 0
    assert run(house, monkeypatch, "check") == 0
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("Before.\n<!-- measured:walks -->\n`walk`")
    assert readme.endswith("| 4 | 9 |\n<!-- /measured -->\nAfter.\n")
    for page in ("README.md", "docs/results.md", "docs/systems/walk.md"):
        kept = (tmp_path / page).read_text()
        assert "| 2 | 7 |" in kept
        (tmp_path / page).write_text(kept.replace("| 2 | 7 |", "| 2 | 8 |"))
        capsys.readouterr()
        assert run(house, monkeypatch, "check") == 1
        assert capsys.readouterr().err.startswith(f"{page} is not what docs/data says")
        (tmp_path / page).write_text(kept)
    assert run(house, monkeypatch, "check") == 0


def test_a_block_without_its_end_is_named(house: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text("<!-- measured:walks -->\n")
    with pytest.raises(SystemExit, match=r"README\.md: expected <!-- /measured --> behind each .*, found 0/1"):
        run(house, monkeypatch, "check")


def put(results: Any, name: str, columns: list[str], *rows: list[Any]) -> None:
    """Keeps a table."""
    (results.DATA / f"{name}.json").write_text(json.dumps({**TABLE, "title": name, "columns": columns, "rows": rows}))


def figure(results: Any, system: str) -> str | None:
    contents = {path.stem: json.loads(path.read_text()) for path in results.DATA.glob("*.json")}
    found: str | None = results.figures(contents).get(system)
    return found


def test_a_system_shows_the_most_telling_figure_there_is(house: Any) -> None:
    assert figure(house, "pi0-fast") is None
    put(house, "parity-policies", ["case", "largest difference"], ["`pi0_fast/small`", "1e-06"])
    assert figure(house, "pi0-fast") == "1e-06 from the reference's plans (parity-policies)"
    put(house, "listening", ["system", "right", "told otherwise"], ["pi0-fast", "250/256", "130/256"])
    assert figure(house, "pi0-fast") == "250/256 motions right, 130/256 told otherwise (listening)"
    put(house, "language-policies", ["head", "success"], ["bins", "**3/9** (1–8 %)"], ["fast", "**7/9** (4–9 %)"])
    assert figure(house, "pi0-fast") == "7/9 seeds of ten tasks by its kind of head (language-policies)"
    assert figure(house, "openvla") == "3/9 seeds of ten tasks by its kind of head (language-policies)"
    assert figure(house, "openvla-oft") is None


def test_figures_of_whole_tables(house: Any) -> None:
    rows = [["reach", "easy", "19/20"], ["mean of 1", "easy", "19/20"], ["hammer", "hard", "7/20"]]
    put(house, "metaworld-points-steps", ["task", "difficulty", "solved"], *rows)
    assert figure(house, "flow-policy-3d") == "26/40 seeds of 2 tasks (metaworld-points-steps)"
    put(house, "speed-pi0", ["", "a chunk, s"], ["the first plan", "31.5"], ["later plans", "9.7"])
    assert figure(house, "pi0") == "a plan of 3.24 B in 9.7 s (speed-pi0)"


def test_a_table_without_the_column_of_a_figure_is_named(house: Any) -> None:
    put(house, "listening", ["system", "right"], ["rt1", "9/9"])
    with pytest.raises(SystemExit, match=r"listening\.json: expected a column 'told otherwise', found system, right"):
        figure(house, "rt1")


def test_a_page_says_all_that_is_measured_of_a_system_or_that_nothing_is(
    house: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "docs" / "systems" / "rt1.md"
    page.write_text("<!-- measured:rt1 -->\n<!-- /measured -->\n")
    road = tmp_path / "docs" / "road.md"
    road.write_text("<!-- measured:road -->\n<!-- /measured -->\n")
    run(house, monkeypatch, "write")
    assert "Not measured yet.\n" in page.read_text()
    assert "| [RT-1](systems/rt1.md) | one transformer for many tasks | not measured |\n" in road.read_text()
    put(house, "parity-policies", ["case", "largest difference"], ["`rt1/small`", "4e-05"])
    put(house, "listening", ["system", "right", "told otherwise"], ["rt1", "9/9", "5/9"])
    run(house, monkeypatch, "write")
    parity = "- **4e-05 from the reference's plans** ([parity-policies](../results.md#parity-policies))\n"
    heard = "- **9/9 motions right, 5/9 told otherwise** ([listening](../results.md#listening))\n"
    assert heard + parity in page.read_text()
    shown = "9/9 motions right, 5/9 told otherwise ([listening](results.md#listening))"
    assert f"| one transformer for many tasks | {shown} |\n" in road.read_text()
    measured = json.loads((tmp_path / "measured.json").read_text())
    assert measured["rt1"] == "9/9 motions right, 5/9 told otherwise (listening)"
