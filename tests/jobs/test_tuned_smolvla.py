"""A SmolVLA of LeRobot's folder goes on learning on a data set: frozen with prefixes kept, or by adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.golden.materialise import materialise
from tests.interop.test_smolvla import words

from nextmove import data, jobs, store
from nextmove.cli.main import main
from nextmove.config import ConfigError
from nextmove.interop import smolvla

GOLDEN = Path(__file__).parents[1] / "golden" / "smolvla_small"
CAMERAS = {"observation.images.top": (30, 40, 3), "observation.images.wrist": (40, 30, 3)}
QUIET: dict[str, Any] = {"threads": 1, "bf16": "off", "predict": False, "progress": "off", "holdout": 0.5}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words(materialise(GOLDEN, tmp_path_factory.mktemp("lerobot") / "smolvla"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    numbers = {n: {"dtype": "float32", "shape": [6], "names": None} for n in ("observation.state", "action")}
    names = ["height", "width", "channels"]
    cameras = {n: {"dtype": "image", "shape": [*shape], "names": names} for n, shape in CAMERAS.items()}
    writer = data.DatasetWriter(tmp_path_factory.mktemp("set") / "set", numbers | cameras, 10)
    for i in range(2):
        drawn = np.random.default_rng(i)
        columns: dict[str, Any] = {n: drawn.normal(size=(5, 6)).astype(np.float32) for n in numbers}
        columns |= {n: drawn.integers(0, 256, (5, *shape), np.uint8) for n, shape in CAMERAS.items()}
        writer.add_episode(columns, ("up", "down")[i])
    return writer.finalize()


def test_the_command_goes_on_from_lerobots_folder(checkpoint: Path, recorded: Path, tmp_path: Path) -> None:
    words = ["train", "smolvla", "--data", str(recorded), "--from", str(checkpoint), "--out", str(tmp_path / "run")]
    words += ["--steps", "2", "--threads", "1", "--bf16", "off", "--progress", "off", "--holdout", "0.5"]
    words += ["--recipe.optim.batch", "4", "--prefix-cache", str(tmp_path / "kept")]
    assert main(words) == 0
    base, tuned = smolvla.load(checkpoint).policy, store.load(tmp_path / "run")
    frozen = [n for n in base.state_dict() if n.startswith(("encoder.language", "encoder.towers", "encoder.bridge"))]
    assert frozen
    assert all(torch.equal(tuned.state_dict()[name], base.state_dict()[name]) for name in frozen)
    moved = "decoder.net.head.weight"
    assert not torch.equal(tuned.get_parameter(moved), base.get_parameter(moved))
    assert tuned.card.recipe.optim.batch == 4
    assert list((tmp_path / "kept").glob("segment-*"))
    assert tuned.encoder.tokenizer.encode("up").tolist() == base.encoder.tokenizer.encode("up").tolist()


def test_kept_prefixes_and_adapters_on_what_makes_them_exclude_each_other(
    checkpoint: Path, recorded: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"start": [str(checkpoint)], "steps": 1, "lora": 2, **QUIET}
    with pytest.raises(ConfigError, match=r'found adapters on it .*--lora-names "decoder\.\*" leaves it as it is'):
        jobs.train("smolvla", recorded, out=tmp_path / "a", prefix_cache=str(tmp_path / "kept"), **given)
    (tmp_path / "file").write_text("")
    given["lora_names"] = ("decoder.*",)
    with pytest.raises(ConfigError, match=r"--prefix-cache: expected a folder, found the file"):
        jobs.train("smolvla", recorded, out=tmp_path / "b", prefix_cache=str(tmp_path / "file"), **given)
    jobs.train("smolvla", recorded, out=tmp_path / "c", prefix_cache=str(tmp_path / "kept"), **given)


def test_adapters_move_the_language_model(checkpoint: Path, recorded: Path, tmp_path: Path) -> None:
    tuned = jobs.train(
        "smolvla", recorded, out=tmp_path, start=[str(checkpoint)], steps=2, lora=2,
        lora_names=("encoder.language.*",), gradient_checkpointing=True, **QUIET,
    )  # fmt: skip
    base = smolvla.load(checkpoint).policy
    changed = {name for name, p in tuned.named_parameters() if not torch.equal(p, base.get_parameter(name))}
    assert changed
    assert all(name.startswith("encoder.language") for name in changed)
