"""An OpenVLA that knows the units of several data sets goes on learning: on new units, or in one of those it knows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.interop.edits import edit
from tests.interop.openvla_folders import folder_of, tuned
from tokenizers import Tokenizer, models, pre_tokenizers

from nextmove import data, jobs, store
from nextmove.cli.main import main
from nextmove.codecs.edge_bins import EdgeBins
from nextmove.config import ConfigError
from nextmove.contracts import TASK, Feature
from nextmove.interop import openvla
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.openvla import OpenVla

CAMERA = "observation.images.image"
TIMM = ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"]
IDS, ACTIONS = 320, 7
"""Ids of the folder's tokenizer, and numbers of its actions."""
WORDS = ["--steps", "1", "--threads", "1", "--bf16", "off", "--progress", "off", "--holdout", "0.5", "--no-predict"]


def named(place: Path) -> Path:
    """The recorded case under the names of the published towers."""
    return edit(folder_of(place), timm_model_ids=TIMM)


def words(folder: Path) -> Path:
    """A tokenizer of letters beside the weights."""
    letters = {c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz \n:?IO", 3)}
    rest = {chr(0x4E00 + i): i for i in range(3 + len(letters), IDS)}
    backend = Tokenizer(models.WordLevel({"?!": 0, "<s>": 1, "</s>": 2} | letters | rest, unk_token="?!"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words(named(tmp_path_factory.mktemp("openvla") / "openvla"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Actions in units that the folder does not know: up to 50, around 20."""
    numbers = {"action": {"dtype": "float32", "shape": [ACTIONS], "names": None}}
    names = ["height", "width", "channels"]
    writer = data.DatasetWriter(
        tmp_path_factory.mktemp("set") / "set",
        numbers | {CAMERA: {"dtype": "image", "shape": [30, 40, 3], "names": names}},
        5,
    )
    for i in range(2):
        drawn = np.random.default_rng(i)
        actions = drawn.uniform(-10, 50, (6, ACTIONS)).astype(np.float32)
        writer.add_episode({"action": actions, CAMERA: drawn.integers(0, 256, (6, 30, 40, 3), np.uint8)}, "up")
    return writer.finalize()


def statistics(folder: Path, key: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())["norm_stats"][key]["action"]
    return found


def middle(policy: Any) -> torch.Tensor:
    """What the middle of the range stands for, in the robot's units."""
    decoded: torch.Tensor = policy.codec.scale.decode(torch.zeros(ACTIONS))
    return decoded


def test_new_units_need_no_key_and_go_out_under_a_name_of_their_own(
    checkpoint: Path, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["train", "openvla", "--data", str(recorded), "--from", str(checkpoint), "--out", str(tmp_path / "run")]
    assert main([*given, *WORDS]) == 0
    said = capsys.readouterr().out
    assert "scales are those of the new data" in said
    assert "actions in the units of" not in said
    policy = store.load(tmp_path / "run")
    assert isinstance(policy.codec.bins, EdgeBins)
    assert bool((middle(policy) > 5).all())  # Of the data; the folder's own are around 0.
    # In the peer's layout the new units stand beside the old ones, and count alone.
    base = openvla.load(checkpoint, openvla.Asked("toy"))
    out = openvla.export(policy, tmp_path / "out", config=base.config, like=checkpoint)
    assert json.loads((out / "config.json").read_text())["norm_stats"].keys() == {"bridge_orig", "toy", "nextmove"}
    assert json.loads((out / "dataset_statistics.json").read_text()).keys() == {"nextmove"}
    again = jobs.load_policy(out)
    torch.testing.assert_close(middle(again), middle(policy))
    for model in (tmp_path / "run", out):
        assert jobs.evaluate(model, data=recorded, windows=2, out=tmp_path / f"report-{model.name}")["verdict"]
    with pytest.raises(ConfigError, match=r"unnorm_key: .*only OpenVLA's folders have several units; leave it out"):
        jobs.load_policy(tmp_path / "run", unnorm_key="toy")
    # A second time it is known by that name, which other units do not take.
    loaded = openvla.load(out)
    twice = openvla.export(loaded.policy, tmp_path / "twice", config=loaded.config)
    assert json.loads((twice / "dataset_statistics.json").read_text()).keys() == {"nextmove"}
    with pytest.raises(ConfigError, match=r"key: expected a name of its own .*found 'toy'.*there are bridge_orig, toy"):
        openvla.export(policy, tmp_path / "no", config=base.config, key="toy")


def test_units_that_are_kept_are_asked_for(
    checkpoint: Path, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["train", "openvla", str(recorded), "--from", str(checkpoint), *WORDS, "--out"]
    known = "unnorm_key: expected one of bridge_orig, toy"
    assert main([*given, str(tmp_path / "a"), "--keep-scales"]) == 1
    assert f"{known}, for actions are in the units of one data set; found none" in capsys.readouterr().err
    assert main([*given, str(tmp_path / "a"), "--keep-scales", "--unnorm-key", "bridge"]) == 1
    assert f"{known}, found 'bridge', did you mean 'bridge_orig'" in capsys.readouterr().err
    assert main([*given, str(tmp_path / "a"), "--unnorm-key", "kuka"]) == 1
    assert f"{known}, found 'kuka'" in capsys.readouterr().err
    assert main([*given, str(tmp_path / "a"), "--keep-scales", "--unnorm-key=toy"]) == 0
    own = statistics(checkpoint, "toy")
    expected = (torch.tensor(own["q01"]) + torch.tensor(own["q99"])) / 2
    policy = store.load(tmp_path / "a")
    torch.testing.assert_close(middle(policy), expected)
    base = openvla.load(checkpoint, openvla.Asked("toy"))
    out = openvla.export(policy, tmp_path / "out", config=base.config)
    assert json.loads((out / "dataset_statistics.json").read_text()).keys() == {"bridge_orig", "toy"}


def test_a_comparison_is_told_in_whose_units(
    checkpoint: Path, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = words(named(tmp_path / "other"))
    given = ["compare", "--runs", str(checkpoint), str(other), f"--data={recorded}", "--out", str(tmp_path / "report")]
    given += ["--windows", "2"]
    assert main(given) == 1
    assert "unnorm_key: expected one of bridge_orig, toy" in capsys.readouterr().err
    assert main([*given, "--unnorm-key", "toy"]) == 0
    assert main([*given, "--unnorm-key", "toy"]) == 0
    assert "other: judged before" in capsys.readouterr().out
    assert main([*given, "--unnorm-key", "bridge_orig"]) == 0  # Judged anew, as it acts otherwise.
    assert "judged before" not in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"unnorm_key: for finished runs, which --runs names; leave out"):
        jobs.compare(recorded, unnorm_key="toy")


def test_the_next_step_is_said(
    checkpoint: Path, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*given: object) -> str:
        assert main([str(word) for word in given]) == 1
        return capsys.readouterr().err

    nowhere = said("evaluate", checkpoint, tmp_path / "nowhere")
    assert f"expected a data set's folder or a task behind the model, found '{tmp_path / 'nowhere'}'" in nowhere
    assert f"there is no folder {tmp_path / 'nowhere'}" in nowhere
    run = ("train", "openvla", recorded, "--from", checkpoint, "--out", tmp_path / "run", *WORDS)
    camera = said(*run, "--recipe.encoder.cameras", "observation.images.other")
    assert "camera: expected 'observation.images.other'" in camera
    assert "--recipe.encoder.cameras lists the data's" in camera
    assert main([*map(str, run)]) == 0
    assert "nextmove.interop.openvla.export(policy, OUT)" in said("export-lerobot", tmp_path / "run", tmp_path / "out")
    folder = tuned(words(named(tmp_path / "oft")))
    assert main(["inspect", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "statistics of actions of: libero_toy (dataset_statistics.json)" in shown
    assert "action_head--900_checkpoint.pt" in shown
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "expected model.safetensors, found none but pytorch_model.bin, a pickle, which is not run; write" in said(
        "evaluate", folder, recorded
    )


def test_a_key_without_scales_that_are_kept_is_said(
    checkpoint: Path, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["train", "openvla", str(recorded), "--from", str(checkpoint), *WORDS, "--out", str(tmp_path / "a")]
    assert main([*given, "--unnorm-key", "toy"]) == 0
    assert "--unnorm-key toy: its units give way to those of the new data" in capsys.readouterr().out
    assert bool((middle(store.load(tmp_path / "a")) > 5).all())


def test_what_counts_beside_a_whole_policy_alone_is_refused_else(recorded: Path, tmp_path: Path) -> None:
    for option in ({"keep_scales": True}, {"unnorm_key": "toy"}):
        with pytest.raises(ConfigError, match=rf"{next(iter(option))}: counts beside --from FOLDER"):
            jobs.train("openvla", recorded, out=tmp_path / "a", steps=1, **option)
    with pytest.raises(ConfigError, match="actions: OpenVLA's code acts in absolute actions"):
        openvla.export(_relative(), tmp_path / "b")


def _relative() -> Any:
    """A policy whose actions are differences."""
    inputs = {CAMERA: Feature("image", (30, 40, 3)), "observation.state": Feature("state", (3,)), TASK: Feature("text")}
    recipe = OpenVla().seeing(inputs)
    return replace(recipe, actions=replace(recipe.actions, space="relative")).build(PolicySpec(inputs, 3, 5.0))


def test_statistics_of_a_tuned_folders_own_file_go_out_again(tmp_path: Path) -> None:
    folder = tuned(named(tmp_path / "oft"))
    loaded = openvla.load(folder, openvla.Asked(fps=5.0))
    out = openvla.export(loaded.policy, tmp_path / "out", config=loaded.config)
    theirs = json.loads((folder / "dataset_statistics.json").read_text())
    assert json.loads((out / "dataset_statistics.json").read_text()) == theirs
    assert openvla.load(out, openvla.Asked(fps=5.0)).policy.timing == loaded.policy.timing
