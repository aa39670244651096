"""`nextmove scenes`: a folder to look at and to train on, the same however it is drawn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from nextmove import jobs
from nextmove.config import ConfigError
from nextmove.data.pairs import Pairs
from nextmove.jobs.scene_parts import is_held
from nextmove.sim import SimulatorError
from nextmove.sim.scene import Thing

SETTINGS = {"tasks": ("pusht/table",), "scenes": 60, "size": 32, "questions": 3, "held_out": 0.25, "seed": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return jobs.scenes(tmp_path_factory.mktemp("scenes") / "set", workers=0, **SETTINGS)
    except SimulatorError as problem:
        pytest.skip(f"needs gym-pusht ({problem})")


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.suffix in (".png", ".jsonl")}


def test_it_is_a_data_set_of_images_and_texts(folder: Path) -> None:
    pairs = Pairs.read(folder, size=(32, 32), say=lambda _: None)
    train, test = pairs.split()
    assert (len({r.images for r in train.rows}), len({r.images for r in test.rows})) == (45, 15)
    assert pairs.notes == ()
    assert len(pairs) == 60 * 4
    assert pairs.batch([0])["images"].shape == (1, 1, 32, 32, 3)
    shutil.rmtree(folder / ".frames")


def test_held_out_compositions_are_never_trained_on(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    by_split: dict[str, set[str]] = {"train": set(), "held-out": set()}
    for line in lines:
        if line["kind"] == "caption":
            by_split[line["split"]].add(line["text"])
    assert not by_split["train"] & by_split["held-out"]
    for text in by_split["held-out"]:
        colour, place = text.split()[1], text.split(" the ", 1)[1]
        assert Thing(colour, "T", place).held_out


def test_it_says_what_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = json.loads((folder / "scenes.json").read_text())
    assert about["images"] == {"train": 45, "held-out": 15}
    assert about["rows"]["caption"] == 60
    assert 0 <= about["blind"] <= 1
    assert "pymunk" in about["simulator"]["packages"]
    page = (folder / "scenes.html").read_text()
    assert page.count("data:image/png;base64,") == 12
    assert "nextmove scenes" in page
    jobs.scenes(folder, workers=0, **SETTINGS)
    said = capsys.readouterr().out
    assert "45 scenes to train on, 15 held out; 240 rows" in said
    assert "answered without looking" in said


def test_inspect_describes_it(folder: Path) -> None:
    found = jobs.inspect(folder, deep=True)
    assert "240 rows about 60 images" in found
    assert "split held-out 60, train 180" in found
    assert "answered without looking" in found
    assert "nothing wrong found" in found
    assert found.errors == 0


def test_inspect_counts_what_is_absent_or_damaged(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("image,text\na.png,one\nb.png,two\n")
    (tmp_path / "b.png").write_bytes(b"no image")
    assert jobs.inspect(tmp_path).errors == 1
    found = jobs.inspect(tmp_path, deep=True)
    assert found.errors == 2
    assert "a.png: absent" in found
    assert "b.png: expected an image" in found


def test_a_stopped_drawing_goes_on_and_workers_change_nothing(folder: Path) -> None:
    before = files(folder)
    assert len([name for name in before if name.endswith(".png")]) == 60
    shutil.rmtree(folder / "images" / "pusht-table-000048")
    (folder / "captions.jsonl").unlink()
    jobs.scenes(folder, workers=1, **SETTINGS)
    assert files(folder) == before


def test_other_settings_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds scenes of other settings \(size 32, not 48; seed 1, not 2\)"):
        jobs.scenes(folder, workers=0, **{**SETTINGS, "size": 48, "seed": 2})
    (tmp_path / "captions.jsonl").write_text("{}")
    with pytest.raises(ConfigError, match="holds another data set"):
        jobs.scenes(tmp_path, workers=0, **SETTINGS)
    with pytest.raises(SimulatorError, match="at most 512"):
        jobs.scenes(tmp_path / "new", workers=0, **{**SETTINGS, "size": 600})
    assert not (tmp_path / "new" / "scenes.json").exists()


def test_images_are_plain_files(folder: Path) -> None:
    with Image.open(folder / "images" / "pusht-table-000000" / "000.png") as image:
        assert (image.size, image.mode) == ((32, 32), "RGB")


def test_held_out_scenes_are_spread_evenly() -> None:
    assert [is_held(number, 0.25) for number in range(8)] == [False, False, False, True] * 2
    assert not any(is_held(number, 0.0) for number in range(50))
    assert sum(is_held(number, 0.15) for number in range(100)) == 15
