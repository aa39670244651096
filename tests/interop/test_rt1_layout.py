"""RT-1 beside the published TensorFlow code: tokens of images, the training pass, its loss, and a rollout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.parity import run
from safetensors.torch import load_file, save_file
from tests.golden.materialise import materialise

from nextmove.config import ConfigError
from nextmove.interop import rt1

CASE = Path(__file__).parents[1] / "golden" / "rt1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return materialise(CASE, tmp_path_factory.mktemp("rt1") / "case")


def test_equals_the_reference(tmp_path: Path) -> None:
    result = run(CASE, tmp_path / "case")
    assert "error" not in result
    assert "not_compared" not in result
    # Feature maps of 26 blocks have a scale of 24 and come from another framework.
    assert result["max_abs_diff"] < 1e-4
    assert result["loss_diff"] < 1e-5
    assert result["greedy_equal"]
    assert result["keys_used"] == 645
    assert result["keys_ignored"] == 0


def test_every_tensor_has_a_name_of_ours(folder: Path) -> None:
    loaded = rt1.load(folder, fps=3.0)
    assert len(loaded.names) == 645
    state = loaded.policy.state_dict()
    assert set(loaded.names.values()) <= set(state)
    assert loaded.policy.timing.n_obs_steps == 3
    assert loaded.report.notes[0].startswith("action_embedding: kept, without effect")


def test_what_is_wrong_is_named(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "case.json").read_text())

    def written(**changed: object) -> Path:
        (tmp_path / "config.json").write_text(json.dumps(config | changed))
        return tmp_path

    for name in (
        "encoder.film.add.weight",
        "encoder.blocks.3.film.mult.bias",
        "transformer.layers.1.attention.key.bias",
    ):
        save_file({n: v for n, v in tensors.items() if n != name}, tmp_path / "model.safetensors")
        with pytest.raises(ConfigError, match=f"missing tensor '{name}'"):
            rt1.load(written())
    save_file(tensors | {"head.extra": tensors["encoder.film.add.bias"].clone()}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"tensor 'head.extra' belongs to no part of the policy"):
        rt1.load(written())
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"transformer.layers.0.attention.query.weight: expected shape \(32, 64\)"):
        rt1.load(written(heads=2))
    with pytest.raises(ConfigError, match=r"actions.world_vector: expected a number of dimensions, low and high"):
        rt1.load(written(actions={"world_vector": [3, 1.0, -1.0]}))
