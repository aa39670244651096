"""Judging models of images and texts on held-out captions, and the arithmetic behind it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.models.tiny_blip import COLOURS, TINY, tiny, trained

from nextmove import store
from nextmove.cli.main import main
from nextmove.data import DataError
from nextmove.evaluation.pairing import groups, heated, recalled, wrong_partner
from nextmove.nn.attention import Attention
from nextmove.nn.watched import watched


def test_groups_hold_no_text_and_no_image_twice() -> None:
    texts = [f"text {i % 7}" for i in range(40)]
    images = [i // 2 for i in range(40)]
    found = groups(texts, images, 5, seed=3)
    assert len(found) >= 5
    rows = np.concatenate(found)
    assert len(set(rows.tolist())) == len(rows)
    for part in found:
        assert len(part) == 5
        assert len({texts[i] for i in part}) == len({images[i] for i in part}) == 5
    assert [len(part) for part in groups(texts, images, 64)] == [7] * len(groups(texts, images, 64))
    assert all(np.array_equal(a, b) for a, b in zip(found, groups(texts, images, 5, seed=3), strict=True))


def test_recall_both_ways() -> None:
    scores = np.array([[3.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    image, text = recalled(scores)
    assert image.tolist() == [True, False, False]
    assert text.tolist() == [True, False, True]


def test_wrong_partners_say_something_else() -> None:
    texts = ["a", "b", "a", "c"]
    other = wrong_partner(texts, 1)
    assert all(texts[i] != text for i, text in zip(other, texts, strict=True))
    assert wrong_partner(["a", "a"]).tolist() == [0, 1]


def test_what_was_looked_at_is_bright() -> None:
    image = np.full((4, 4, 3), 200, np.uint8)
    bright = heated(image, np.array([[0.5, 0.0], [0.25, 0.25]]))
    assert bright[0, 0, 0] == 200
    assert bright[0, 3, 0] == 40
    assert bright[3, 3, 0] == 120


def test_watching_changes_nothing() -> None:
    attention = Attention(8, 2)
    x = torch.randn(2, 3, 8)
    plain, _ = attention(x, x, x)
    with watched(attention) as found:
        seen, _ = attention(x, x, x)
    assert torch.equal(plain, seen)
    assert found[0].shape == (2, 2, 3, 3)
    torch.testing.assert_close(found[0].sum(-1), torch.ones(2, 2, 3))
    attention(x, x, x)
    assert len(found) == 1
    v = attention._in_heads(torch.nn.functional.linear(x, attention.in_proj_weight[16:], attention.in_proj_bias[16:]))
    torch.testing.assert_close(attention.out_proj((found[0] @ v).transpose(1, 2).flatten(2)), plain)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The colours, all held out but a black one, each twice."""
    place = tmp_path_factory.mktemp("images")
    rows = []
    for name, rgb in {**COLOURS, "black": (0, 0, 0)}.items():
        for i in range(2):
            Image.new("RGB", (16, 16), rgb).save(place / f"{name}{i}.png", compress_level=i)
            split = "train" if name == "black" else "held-out"
            rows.append({"image": f"{name}{i}.png", "text": f"a {name} square", "split": split})
    rows.append({"image": "red0.png", "question": "What?", "answer": "red", "split": "held-out"})
    (place / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return place


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store.save(trained(), tmp_path_factory.mktemp("blip"))


def test_a_model_is_judged_on_held_out_captions(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(model), "--data", str(folder), "--out", str(tmp_path)]) == 0
    said = json.loads((tmp_path / "report.json").read_text())
    rates = said["rates"]
    assert set(rates) == {"image finds its text", "text finds its image", "pairs told apart", "captions exact"}
    assert rates["captions exact"]["successes"] == rates["captions exact"]["episodes"] == 8
    assert rates["pairs told apart"]["episodes"] == 16
    assert rates["pairs told apart"]["rate"] == 1
    assert rates["image finds its text"]["rate"] == rates["text finds its image"]["rate"] == 1
    assert rates["captions exact"]["low"] < 0.7
    assert said["judged_on"]["rows"] == 8
    assert said["commands"][0].startswith("nextmove evaluate")
    printed = capsys.readouterr().out
    assert "captions exact: 8/8 (100 %, 95 % interval 68 to 100)" in printed
    assert "It may have been trained on these images" in printed
    page = (tmp_path / "report.html").read_text()
    assert "Where it looks" in page
    assert 'class="right"' in page


def test_an_untrained_model_is_wrong_and_shown_so(folder: Path, tmp_path: Path) -> None:
    place = store.save(tiny().eval(), tmp_path / "model")
    assert main(["evaluate", str(place), "--data", str(folder), "--beams", "1"]) == 0
    said = json.loads((place / "evaluation" / "report.json").read_text())
    assert said["rates"]["captions exact"]["successes"] == 0
    assert 'class="wrong"' in (place / "evaluation" / "report.html").read_text()


def test_parts_that_a_model_lacks_are_not_judged(folder: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    place = store.save(tiny(replace(TINY, reads=False, contrast=None)).eval(), tmp_path / "writer")
    assert main(["evaluate", str(place), "--data", str(folder), "--beams", "1"]) == 0
    said = json.loads((place / "evaluation" / "report.json").read_text())
    assert set(said["rates"]) == {"captions exact"}


def test_options_of_other_models_are_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(model), "--episodes", "3"]) == 2
    assert "--episodes: for policies, found a vision-language; leave it out" in capsys.readouterr().err


def test_a_source_without_held_out_captions_is_refused(model: Path, folder: Path, tmp_path: Path) -> None:
    from nextmove import jobs

    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    (tmp_path / "a.png").write_bytes((folder / "red0.png").read_bytes())
    (tmp_path / "b.png").write_bytes((folder / "red1.png").read_bytes())
    asked = {"image": "a.png", "question": "What?", "answer": "red", "split": "held-out"}
    named = {**rows[0], "image": "b.png", "split": "train"}
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, [asked, named])))
    with pytest.raises(DataError, match="expected held-out captions to judge on, found none"):
        jobs.judge_pairs(model, data=tmp_path, out=tmp_path / "out")
