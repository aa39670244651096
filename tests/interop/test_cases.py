"""Recorded cases of the reference implementations, from raw inputs to raw actions, and that a changed weight shows."""

import shutil
from pathlib import Path

import pytest
from benchmarks.parity import run
from safetensors.torch import load_file, save_file
from tests.golden.materialise import materialise
from torch.nn import functional

from nextmove.control import Ensembling, Receding, suited
from nextmove.evaluation.latency import TimedActor
from nextmove.interop.lerobot import load
from nextmove.jobs import load_policy

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = ["act_state", "act_state_legacy", "diffusion_state", "flowpolicy", "act_images", "diffusion_images_legacy"]
# Made by benchmarks/make_lerobot_cases.py with LeRobot 0.6.1, for options the others lack.
OPTIONS = ["act_options", "act_ensemble", "diffusion_ddim", "diffusion_ddpm"]
# With cameras: LeRobot's own case, then dilated bottlenecks, a network for each camera with resizing, residual blocks.
SEEING = ["diffusion_images", "act_resnet50", "diffusion_separate", "diffusion_resnet34"]
# Two cameras, by releases whose files hold processors but other keys, and what is said of them.
RELEASES = {
    "act_cameras_0.4.0": "LeRobot 0.4.0 to 0.5.1, shown by processor files without the key 'pretrained_revision'",
    "act_cameras_0.5.1": "LeRobot 0.4.0 to 0.5.1, shown by processor files without the key 'pretrained_revision'",
    "diffusion_cameras_0.4.0": "LeRobot 0.4.0 to 0.4.3, shown by processor files without the key 'resize_shape'",
    "diffusion_cameras_0.5.1": "LeRobot 0.4.4 to 0.5.1, shown by the key 'resize_shape'",
}
CHANGED = {
    "act_state": "model.encoder.layers.0.linear1.weight",
    "act_state_legacy": "unnormalize_outputs.buffer_action.mean",
    "diffusion_state": "diffusion.unet.mid_modules.0.conv2.block.1.bias",
    "flowpolicy": "obs_encoder.extractor.final_projection.1.bias",
    "act_images": "model.backbone.layer3.1.bn2.running_var",
    "diffusion_images_legacy": "normalize_inputs.buffer_observation_image.mean",
}


@pytest.fixture
def rounded_once(monkeypatch):
    """Convolutions whose sums are rounded once: in what order kernels add depends on the processor and its threads."""
    convolve = functional.conv2d

    def rounded(x, weight, bias=None, *rest):
        parts = (None if part is None else part.double() for part in (x, weight, bias))
        return convolve(*parts, *rest).to(x.dtype)

    monkeypatch.setattr(functional, "conv2d", rounded)


@pytest.mark.parametrize("name", [*CASES, *OPTIONS, *SEEING, *RELEASES])
@pytest.mark.usefixtures("rounded_once")
def test_equals_the_reference(name, tmp_path):
    result = run(GOLDEN / name, tmp_path)
    assert "error" not in result
    assert "not_compared" not in result
    assert result["max_abs_diff"] < 1e-5
    assert result["float32_diff"] < 1e-5
    # FlowPolicy's loss is a difference of nearly equal numbers.
    assert result["loss_diff"] < (1e-3 if name == "flowpolicy" else 1e-5)
    assert (result["grad_diff"] is None) == (name != "flowpolicy")
    assert (result["grad_diff"] or 0) < 1e-3


@pytest.mark.parametrize("name", CASES)
def test_a_changed_weight_shows(name, tmp_path):
    folder = materialise(GOLDEN / name, tmp_path / "case")
    weights = load_file(folder / "model.safetensors")
    weights[CHANGED[name]].view(-1)[0] += 0.1
    save_file(weights, folder / "model.safetensors")
    (folder / "weights.json").unlink()
    result = run(folder, tmp_path / "unused")
    assert result["max_abs_diff"] > 1e-4


@pytest.mark.parametrize("name", RELEASES)
def test_the_release_is_named(name, tmp_path):
    assert load(materialise(GOLDEN / name, tmp_path)).report.version == RELEASES[name]


def test_what_does_not_load_is_named(tmp_path):
    folder = shutil.copytree(GOLDEN / "diffusion_state", tmp_path / "case")
    config = folder / "config.json"
    text = config.read_text()
    config.unlink()
    config.write_text(text.replace('"n_groups"', '"n_group"'))
    result = run(folder, tmp_path / "made")
    assert "n_group" in result["error"]
    assert result["max_abs_diff"] is None


def test_ensembling_asked_for_by_a_checkpoint_is_heeded_by_what_drives_it(tmp_path):
    folder = materialise(GOLDEN / "act_ensemble", tmp_path / "case")
    policy = load_policy(folder)
    assert policy.ensemble == policy.timing.ensemble == pytest.approx(0.05)
    assert isinstance(suited(policy), Ensembling)
    assert isinstance(suited(TimedActor(policy, policy.spec.fps)), Ensembling)
    # Asking for a number of actions of each plan is asking for those.
    assert load_policy(folder, execute=2).ensemble is None
    assert isinstance(suited(load_policy(folder, execute=2)), Receding)
    assert load_policy(materialise(GOLDEN / "act_state", tmp_path / "plain")).ensemble is None
