"""The gradient of a loss with respect to every tensor of a file: as recorded from transformers, and of what it lacks by
plain functions that give the authors' recorded outputs."""

from __future__ import annotations

import json

import pytest
import torch
from benchmarks.parity import run
from benchmarks.parity.answers import Answers, compare
from benchmarks.parity.reference import described, gradients, restated_of
from safetensors.torch import load_file, save_file
from tests.golden.materialise import materialise
from tests.interop.test_cases import GOLDEN

RECORDED = [
    "blip_caption_gradients", "idefics3_gradients", "idefics_gradients", "llava_gradients", "paligemma_gradients",
    "smolvlm_gradients",
]  # fmt: skip
"""Made by benchmarks/make_reader_cases.py."""
POLICIES = [
    "openvla", "pi05_one_camera", "pi0_fast_one_camera", "pi0_one_camera", "pi0_small", "smolvla_half_expert",
    "smolvla_small",
]  # fmt: skip
RESTATEMENTS = ["flamingo", "blip_pretrain", *POLICIES]


@pytest.mark.parametrize("name", RECORDED)
def test_are_those_of_transformers(name, tmp_path):
    result = run(GOLDEN / name, tmp_path)
    io = load_file(GOLDEN / name / "io.safetensors")
    written = json.loads((GOLDEN / name / "weights.json").read_text())["files"]["model.safetensors"]
    assert {key.removeprefix("grad.") for key in io if key.startswith("grad.")} == set(written)
    assert sum(float(value.abs().max()) > 1e-6 for key, value in io.items() if "grad." in key) > 0.7 * len(written)
    assert "not_compared" not in result
    assert max(result[key] for key in ("max_abs_diff", "loss_diff", "grad_abs_diff")) < 1e-5
    assert result["grad_diff"] < 1e-4


@pytest.mark.parametrize("name", RECORDED)
def test_of_another_weight_are_others(name, tmp_path):
    folder = materialise(GOLDEN / name, tmp_path)
    (folder / "weights.json").unlink()
    weights = load_file(folder / "model.safetensors")
    key = next(key for key in sorted(weights) if weights[key].dim() == 2 and "embed" not in key)
    weights[key] = weights[key].flip(0).contiguous()
    save_file(weights, folder / "model.safetensors")
    assert run(folder, tmp_path / "unused")["grad_abs_diff"] > 1e-4


@pytest.mark.parametrize("name", RESTATEMENTS)
def test_are_those_of_a_plain_restatement(name, tmp_path):
    result = run(GOLDEN / name, tmp_path, recorded=False)
    assert result["grad_reference"] == "restated"
    assert "not_compared" not in result
    # SmolVLA's small case is itself no nearer in float32.
    assert result["grad_abs_diff"] < (1e-4 if name == "smolvla_small" else 1e-5)
    assert result["grad_diff"] < 1e-4


@pytest.mark.parametrize("name", RESTATEMENTS)
def test_restatements_give_what_the_authors_code_gave(name, tmp_path):
    folder = materialise(GOLDEN / name, tmp_path)
    io, restatement = load_file(folder / "io.safetensors"), restated_of(folder)
    assert restatement is not None
    given = {key: value.double() if value.is_floating_point() else value for key, value in io.items()}
    weights = {key: value.double() for key, value in load_file(folder / "model.safetensors").items()}
    found = restatement(weights, described(folder), given)
    assert len(found) > 1
    for key, value in found.items():
        torch.testing.assert_close(value.reshape(io[key].shape).float(), io[key], rtol=0, atol=2e-5)


def test_of_another_loss_are_not_taken(tmp_path, capsys):
    folder = materialise(GOLDEN / "flamingo", tmp_path)
    io = load_file(folder / "io.safetensors")
    assert gradients(folder, io | {"loss": io["loss"] * 1.01}) == ({}, None)
    assert "expected" in capsys.readouterr().err
    assert gradients(folder, {key: value for key, value in io.items() if key != "loss"}) == ({}, None)


def test_where_the_reference_has_none_ours_count(tmp_path):
    found, io = Answers({"grad.a": torch.ones(2), "grad.b": torch.ones(2)}), {"grad.a": torch.ones(2)}
    assert compare(found, io | {"grad.b": torch.zeros(2)})["grad_diff"] == 1
    assert compare(found, io | {"grad.b": torch.zeros(2)})["grad_abs_diff"] == 1
