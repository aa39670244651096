"""Whatever a path holds that is none of ours, or damaged, every command answers in one line that names it, with 1."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image
from tests.data.sets import GOLDEN
from tests.golden.materialise import materialise

from nextmove import data, store
from nextmove.cli.main import main
from nextmove.jobs.tasks.policy import spec_of

SETS = {version: GOLDEN / f"lerobot_dataset_{version}" / "dataset" for version in ("v3", "v21")}
TAKE_DATA = {
    "inspect": ("inspect", "PLACE"),
    "inspect --deep": ("inspect", "PLACE", "--deep", "--workers", "0"),
    "train bc": ("train", "bc", "PLACE", "--steps", "1"),
    "train ddpm": ("train", "ddpm", "PLACE", "--steps", "1"),
    "evaluate --data": ("evaluate", "MODEL", "--data", "PLACE", "--out", "out"),
    "compare": ("compare", "PLACE", "--entries", "bc", "--steps", "1"),
}
TAKE_MODELS = {
    "inspect": ("inspect", "PLACE"),
    "evaluate": ("evaluate", "PLACE", "--episodes", "1"),
    "generate": ("generate", "PLACE"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved policy of the golden sets' robot."""
    folder = tmp_path_factory.mktemp("model") / "bc"
    return store.save(store.create("bc", spec_of(data.open_dataset(SETS["v3"]))), folder)


@pytest.fixture
def answer(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Sequence[str], str], str]:
    """Runs a command in an empty folder; its one line on stderr, after the checks that are the same everywhere."""
    monkeypatch.chdir(tmp_path)

    def run(command: Sequence[str], place: str) -> str:
        assert main([{"PLACE": place, "MODEL": str(model)}.get(word, word) for word in command]) == 1
        printed = capsys.readouterr().err.strip()
        assert place in printed
        assert len(printed.splitlines()) == 1
        assert "Traceback" not in printed
        return printed

    return run


def empty_set(place: Path) -> None:
    """What LeRobot makes before the first episode."""
    info = json.loads((SETS["v3"] / "meta/info.json").read_text())
    (place / "meta").mkdir(parents=True)
    none = {"total_episodes": 0, "total_frames": 0, "total_tasks": 0}
    (place / "meta/info.json").write_text(json.dumps(info | none))


def none_of_ours(place: Path) -> None:
    place.mkdir()
    for name in ("notes.md", "table.csv"):
        (place / name).write_text("x")


PLACES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "nothing": ("nowhere", lambda place: None, "there is no folder nowhere"),
    "a name on the hub": ("lerobot/pusht", lambda place: None, "nothing is downloaded; .* `hf download lerobot/pusht"),
    "a file": ("file.txt", lambda place: place.write_text("x"), r"file\.txt is a file"),
    "an empty folder": ("empty", lambda place: place.mkdir(), "empty is an empty folder|found 0"),
    "none of ours": ("junk", none_of_ours, r"junk is a folder of notes\.md, table\.csv|found 0"),
}


@pytest.mark.parametrize("command", TAKE_DATA)
@pytest.mark.parametrize("kind", PLACES)
def test_a_path_that_holds_no_data_set_is_said_to(kind: str, command: str, answer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    place, make, message = PLACES[kind]
    make(tmp_path / place)
    assert_matches(message, answer(TAKE_DATA[command], place))


@pytest.mark.parametrize("command", TAKE_MODELS)
@pytest.mark.parametrize("kind", PLACES)
def test_a_path_that_holds_no_model_is_said_to(kind: str, command: str, answer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    place, make, message = PLACES[kind]
    make(tmp_path / place)
    assert_matches(message, answer(TAKE_MODELS[command], place))


def assert_matches(message: str, printed: str) -> None:
    import re

    assert re.search(message, printed), printed


@pytest.mark.parametrize("command", TAKE_DATA)
def test_a_data_set_without_frames_is_refused(command: str, answer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    empty_set(tmp_path / "set")
    assert "holds no frame" in answer(TAKE_DATA[command], "set")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 4),
    "cut": cut,
    "a folder": folder,
    "another encoding": lambda path: path.write_text('{"über": 1}', encoding="latin-1"),
    "a list": lambda path: path.write_text("[1, 2]"),
}
FILES = {
    "v3": ("meta/info.json", "meta/tasks.parquet", "meta/episodes/*/*.parquet", "data/*/*.parquet", "videos/*/*/*.mp4"),
    "v21": ("meta/info.json", "meta/tasks.jsonl", "meta/episodes.jsonl", "data/*/*_000001.parquet", "videos/*/*/*.mp4"),
}
TOLERATED = {("meta/tasks.jsonl", "empty"), ("meta/episodes.jsonl", "empty")}
"""What is not known of a set without tasks, whose rows `inspect` finds to have none, or without episodes."""


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(("version", "file"), [(v, f) for v, files in FILES.items() for f in files])
def test_a_damaged_file_of_a_data_set_is_named(  # type: ignore[no-untyped-def]
    version: str, file: str, damage: str, answer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(SETS[version], tmp_path / "set")
    path = sorted((tmp_path / "set").glob(file))[0]
    DAMAGE[damage](path)
    assert main(["inspect", "set"]) == 1
    printed = "".join(capsys.readouterr())
    assert str(path.relative_to(tmp_path)) in printed or (file, damage) in TOLERATED
    command = "train ddpm" if path.suffix == ".mp4" else "train bc"
    if (file, damage) == ("meta/tasks.jsonl", "empty"):
        return
    printed = answer(TAKE_DATA[command], "set")
    assert str(path.relative_to(tmp_path)) in printed or (file, damage) in TOLERATED


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", ["stats.json", "episodes_stats.jsonl"])
def test_statistics_that_cannot_be_read_are_an_error_of_the_data_set(
    file: str, damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "set"
    shutil.copytree(SETS["v3" if file == "stats.json" else "v21"], place)
    DAMAGE[damage](place / "meta" / file)
    nothing = (file, damage) == ("episodes_stats.jsonl", "empty")
    assert main(["inspect", str(place)]) == int(not nothing)
    assert ("has no statistics" if nothing else f"error: stats: {place}/meta/{file}") in capsys.readouterr().out


MODELS = {"ours": None, "LeRobot": "act_state", "LeRobot, legacy": "act_state_legacy", "Hugging Face": "gpt2"}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", MODELS)
def test_a_damaged_file_of_a_model_is_named(kind: str, damage: str, model: Path, answer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = MODELS[kind]
    made = model if source is None else materialise(GOLDEN / source, tmp_path / "made")
    apart = ("io.safetensors", "weights.json", "generation_config.json")
    for path in sorted(p for p in made.iterdir() if p.suffix in (".json", ".safetensors") and p.name not in apart):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(made, tmp_path / "copy")
        DAMAGE[damage](tmp_path / "copy" / path.name)
        for command in {"Hugging Face": ("inspect",)}.get(kind, ("inspect", "evaluate")):
            printed = answer(TAKE_MODELS[command], "copy")
            assert path.name in printed or (damage == "a folder" and path.name == "config.json")


def test_a_config_that_does_not_fit_is_said_with_its_folder(answer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for source in ("act_state", "gpt2"):
        place = materialise(GOLDEN / source, tmp_path / source)
        config = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps(config | {"my_note": 1}))
        assert "config.json: unknown key 'my_note'" in answer(TAKE_MODELS["inspect"], source)


def test_a_picture_that_does_not_decode_is_named(answer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        Image.new("RGB", (40, 40), (i, 0, 0)).save(tmp_path / "pictures" / f"{i}.png")
    for damage in ("empty", "noise", "cut"):
        DAMAGE[damage](tmp_path / "pictures/1.png")
        assert "pictures/1.png: expected an image" in answer(TAKE_DATA["train ddpm"], "pictures")
