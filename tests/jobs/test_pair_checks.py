"""What a training on images and texts would stumble over later is said before its first step, with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.models.tiny_blip import TINY, tiny

from nextmove import jobs, store
from nextmove.config import ConfigError
from nextmove.data import DataError
from nextmove.jobs.tasks.asked import Asked
from nextmove.jobs.tasks.pair_checks import BYTES
from nextmove.jobs.tasks.pairs import Options, task
from nextmove.models.vision_language.clip import Clip
from nextmove.models.vision_language.llava import Llava
from nextmove.nn.vit import VisionTower

TOWER = VisionTower(16, 8, 32, 2, 2, layer=-2, pool="none")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("blip")
    store.save(tiny(), place / "model")
    return place


def folder(tmp_path: Path, **last: Any) -> str:
    """Four images with a caption each, the last row changed."""
    rows = [{"image": f"{i}.png", "text": f"square {i}", "split": "train"} for i in range(4)]
    for i in range(4):
        Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(tmp_path / f"{i}.png")
    rows[-1] = {"image": "3.png", "split": "train", **last} if last else rows[-1]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(tmp_path)


@pytest.mark.parametrize(
    ("system", "recipe", "last", "said"),
    [
        (
            "llava", Llava(), {"question": "is <image> like <image>?", "answer": "yes"},
            r"question: expected 1 markers <image>.*or none, found 2, in the row of 3\.png: 'is <image> like",
        ),
        ("llava", Llava(), {"text": "<image> red"}, r"text: expected no marker <image>.*in the row of 3\.png"),
        (
            "clip", Clip(), {"image": ["2.png", "3.png"], "text": "two"},
            r"image: expected 1, which clip compares with a text, found 2, in the row of 2\.png, 3\.png: 'two'",
        ),
    ],
)  # fmt: skip
def test_a_row_that_the_system_cannot_read_is_named(
    tmp_path: Path, system: str, recipe: Any, last: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        task(Asked(system, folder(tmp_path, **last), recipe), Options(side=16, vocabulary=300))


@pytest.mark.parametrize(
    ("recipe", "side", "said"),
    [
        (Llava(tower=TOWER), 20, r"side: expected a multiple of the 8 px of a patch, found 20; --side 16 or --side 24"),
        (Llava(tower=TOWER), 5, r"found 5; --side 8$"),
    ],
)
def test_a_side_of_no_whole_patches_is_refused_before_images_are_decoded(
    tmp_path: Path, recipe: Any, side: int, said: str
) -> None:
    source = folder(tmp_path)
    with pytest.raises(ConfigError, match=said):
        task(Asked("llava", source, recipe), Options(side=side, vocabulary=300))
    assert not (tmp_path / ".frames").exists()


def test_a_tower_of_another_size_is_refused_with_its_own(tmp_path: Path, run: Path) -> None:
    asked = Asked("llava", folder(tmp_path), Llava(tower=TOWER), start={"tower": str(run)})
    with pytest.raises(ConfigError, match=r"side: expected the 16 px that the tower of .* is for, found 32; --side 16"):
        task(asked, Options(side=32, vocabulary=300))
    assert task(asked, Options(vocabulary=300)).model.spec.height == TINY.image.image


def test_clip_says_what_begins_its_tower(tmp_path: Path, run: Path) -> None:
    asked = Asked("clip", folder(tmp_path), Clip(), start={"tower": str(run)})
    with pytest.raises(ConfigError, match=r"--from net\.image="):
        task(asked, Options(vocabulary=300))


def test_a_vocabulary_without_room_for_bytes_is_named_as_the_option_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"vocabulary: expected at least {BYTES}, .*found 256"):
        task(Asked("llava", folder(tmp_path), Llava()), Options(side=16, vocabulary=BYTES - 7))


def test_nothing_to_do_is_said(tmp_path: Path, run: Path) -> None:
    with pytest.raises(ConfigError, match=r"images: expected files of images behind the model, found none"):
        jobs.caption(run, ())
    with pytest.raises(ConfigError, match=r"text: expected what is looked for, found ' '"):
        jobs.search(run, folder(tmp_path), " ")
    with pytest.raises(ConfigError, match=r"ways: expected at least 2, found 1"):
        jobs.judge_pairs(run, ways=1)


def test_a_model_that_does_something_else_says_which_commands_use_it(tmp_path: Path, run: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"found nextmove \(blip\); .*`nextmove search`.*`nextmove caption`"):
        jobs.ask(run, (tmp_path / "a.png", "what?"))
