"""The front door: help without torch, nearest names, options that come from the system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import nextmove
from nextmove.cli.main import COMMANDS, main
from nextmove.config import ConfigError
from nextmove.jobs.tasks.looking import recipe_for
from nextmove.sim import SUITES
from nextmove.systems import SYSTEMS, System, built


def test_help_and_import_load_no_torch() -> None:
    code = (
        "import sys, nextmove, nextmove.cli.main as m; m.main(['--help']); m.main(['systems']);"
        "m.main(['train', '--help'])\n"
        "heavy = {'torch', 'numpy', 'tyro', 'av', 'gymnasium', 'matplotlib'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command in done.stdout


def test_help_breaks_lines_where_the_terminal_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    with pytest.raises(SystemExit):
        main(["train", "clip", "--help"])
    shown = [line.strip("│ ").rstrip() for line in capsys.readouterr().out.splitlines()]
    begin = next(i for i, line in enumerate(shown) if line.startswith("--from"))
    text = shown[begin + 1 : next(i for i in range(begin + 1, len(shown)) if shown[i].startswith("--"))]
    # No word of the next line has room at the end of one.
    assert len(text) > 5
    assert all(len(line) + 1 + len(behind.split(" ")[0]) > 75 for line, behind in pairwise(text))


@pytest.mark.parametrize("words", [["--help"], ["systems"], ["train", "--help"]])
def test_a_reader_that_had_enough_is_no_error(words: list[str]) -> None:
    theirs, ours = os.pipe()
    os.close(theirs)
    command = [sys.executable, "-m", "nextmove.cli.main", *words]
    done = subprocess.run(command, stdout=ours, stderr=subprocess.PIPE, text=True, check=False)
    os.close(ours)
    assert (done.returncode, done.stderr) == (141, "")


def test_unknown_command_suggests(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "did you mean 'train'" in capsys.readouterr().err


def test_unknown_system_and_planned_system(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["train", "flow-polcy", "x"]) == 1
    assert "did you mean 'flow-policy'" in capsys.readouterr().err
    planned = System("later", "Later", "policy", "all of it", "everything")
    monkeypatch.setattr("nextmove.systems.SYSTEMS", (*SYSTEMS, planned))
    assert main(["train", "later", "x"]) == 1
    assert "planned, not built" in capsys.readouterr().err


def test_tasks_are_listed_by_suite_and_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks"]) == 0
    suites = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line}
    assert suites >= {"suite", *SUITES}
    assert main(["tasks", "aloha"]) == 0
    assert "aloha/insertion" in capsys.readouterr().out
    assert main(["tasks", "aloha", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == [task.name for task in SUITES["aloha"]]
    assert rows[0]["packages"] == ["mujoco", "dm-control"]
    assert main(["tasks", "alohe"]) == 1
    assert "did you mean 'aloha'" in capsys.readouterr().err


def test_systems_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["systems", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == [system.name for system in SYSTEMS]
    assert [row["state"] for row in rows] == ["built" if system.recipe else "planned" for system in SYSTEMS]
    assert all(row["family"] and row["sentence"] for row in rows)


def test_the_road_names_change_file_and_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["road"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(lines) == {"system", *(s.name for s in SYSTEMS)}
    for system in SYSTEMS:
        assert system.since in lines[system.name]
        assert (system.file or "planned") in lines[system.name]
    measured = json.loads((Path(nextmove.__file__).parent / "measured.json").read_text())
    for system in SYSTEMS:
        assert measured.get(system.name, "not measured") in lines[system.name]
        page = Path(__file__).parents[2] / "docs" / "systems" / f"{system.name}.md"
        assert f"<!-- measured:{system.name} -->" in page.read_text()
    assert {s.name for s in built("vision-language-action")} <= measured.keys()


@pytest.mark.parametrize("system", built(), ids=lambda s: s.name)
def test_every_built_system_has_help_with_its_own_options(system, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit) as stop:
        main(["train", system.name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in ("--minutes", "--save-every", "--validate-every", "--log-every"):
        assert option in text
    assert ("--recipe.timing.horizon" if system.family == "policy" else "--recipe.optim.lr") in text


def test_a_missing_folder_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "/nowhere"]) == 1
    err = capsys.readouterr().err
    assert "/nowhere" in err
    assert "Traceback" not in err


def test_what_a_policy_looks_at_is_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = recipe_for("act", parts="camera, state,instruction")
    assert [type(part).__name__ for part in recipe.encoder.parts] == ["Camera", "State", "Instruction"]
    assert recipe_for("lstm-gmm", parts="cloud").encoder.tokens
    with pytest.raises(ConfigError, match=r"--parts: expected one of state.*found 'camra', did you mean 'camera'"):
        recipe_for("act", parts="camra")
    with pytest.raises(
        ConfigError, match="--parts: expected each part once, found state twice in 'state,camera,state'"
    ):
        recipe_for("act", parts="state,camera,state")
    with pytest.raises(ConfigError, match="--parts: Gpt2 looks at nothing; leave it out"):
        recipe_for("gpt", parts="state")
    with pytest.raises(SystemExit):
        main(["train", "flow-policy", "--parts", "camera,state", "--help"])
    text = capsys.readouterr().out
    assert "--recipe.encoder.parts.0.crop" in text
    assert "--recipe.encoder.parts.1.noise" in text


def test_a_choice_that_is_made_twice_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "flow-policy", "demos", "--parts", "state", "--parts=instruction"]) == 1
    assert "--parts: expected it once, found state and instruction" in capsys.readouterr().err


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "nextmove", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"nextmove {nextmove.__version__}\n")
