"""A generator's own pictures: what a run goes on with, and what is held out of them or was trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nextmove import data, jobs
from nextmove.data import Affine
from nextmove.decoders import Autoregressive
from nextmove.models.image.pixelcnn import PixelCnn
from nextmove.nn.pixelcnn import GatedCnn
from nextmove.training import CheckpointError

SMALL = PixelCnn(decoder=Autoregressive(trunk=GatedCnn(width=8, layers=2, first=3, head=8)))
SMALL = replace(SMALL, optim=replace(SMALL.optim, batch=2))


def noise(folder: Path, count: int, seed: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def test_a_generator_is_resumed_on_its_own_data_only(tmp_path: Path) -> None:
    folders = {}
    for name, seed in (("own", 0), ("other", 1)):
        folders[name] = noise(tmp_path / name, 12, seed)
    options: dict[str, Any] = {"out": tmp_path / "run", "threads": 1, "recipe": SMALL, "side": 8}
    jobs.train("pixelcnn", str(folders["own"]), steps=1, **options)
    for wrong, message in (
        ({"source": folders["other"]}, "data.content.image: the checkpoint was written with '"),
        ({"holdout": 0.5}, "data.pictures: the checkpoint was written with 11, this run has 6"),
        ({"augment": Affine(shift=1.0)}, "data.augment: the checkpoint was written with None, this run has {'kind'"),
    ):
        settings = {"source": folders["own"], **wrong}
        with pytest.raises(CheckpointError, match=message):
            jobs.train("pixelcnn", str(settings.pop("source")), steps=2, resume=True, **options, **settings)
    moved = folders["own"].rename(tmp_path / "moved")
    assert jobs.train("pixelcnn", str(moved), steps=2, resume=True, **options).facts["steps"] == 2


def test_pictures_that_were_trained_on_are_not_judged_as_if_held_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = noise(tmp_path / "folder", 40)
    run = tmp_path / "run"
    jobs.train("pixelcnn", str(folder), out=run, steps=4, threads=1, recipe=SMALL, side=8)
    found = data.images(folder, size=8)
    options: dict[str, Any] = {"samples": 2, "likelihood": 2, "classified": 0, "out": tmp_path / "out"}

    def judged(source: Path) -> str:
        report = jobs.judge_generator(run, data=source, **options)
        printed = f"{report['judged_on']['sentence']}. {report['judged_on']['caution']}".strip()
        assert f"judged on {printed}" in capsys.readouterr().out
        assert printed in (tmp_path / "out" / "report.html").read_text()
        return printed

    assert "content" not in jobs.judge_generator(run, **options)["facts"]
    assert judged(folder) == f"the {len(found.test)} images kept from training."
    moved = folder.rename(tmp_path / "moved")
    noise(moved / "more", 20, seed=1)
    grown = data.images(moved, size=8)
    new = len(grown.test) - len(found.test)
    assert judged(moved) == (
        f"the {len(found.test)} images kept from training and the {new} images that the model was not trained on."
    )
    # A folder of training images alone: some of them are for tests there.
    seen = tmp_path / "seen"
    seen.mkdir()
    pixels = (found.train.image[:2] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for i, one in enumerate(pixels):
        Image.fromarray(one).save(seen / f"{i}.png")
    assert "It was trained on these images" in judged(seen)
    config = json.loads((run / "model" / "config.json").read_text())
    del config["facts"]["content"]
    (run / "model" / "config.json").write_text(json.dumps(config))
    assert "It may have been trained on these images" in judged(moved)
