"""A checkpoint that is not understood to the last key is refused, and the message names what is wrong."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.golden.materialise import materialise
from tests.interop.edits import edit, edit_tensors
from tests.interop.lerobot_folders import ACT, DIFFUSION, config, statistics, tensors, write

from nextmove import sim
from nextmove.config import ConfigError
from nextmove.data import open_dataset
from nextmove.interop.lerobot import load
from nextmove.interop.lerobot.config import READING
from nextmove.interop.lerobot_types import LOADS
from nextmove.jobs.robot import fits_data, fits_task

GOLDEN = Path(__file__).parents[1] / "golden"
PRE, POST = "policy_preprocessor", "policy_postprocessor"


@pytest.fixture
def act(tmp_path):
    c = config(ACT)
    return write(tmp_path / "act", c, tensors(c), statistics(c))


@pytest.fixture
def diffusion(tmp_path):
    c = config(DIFFUSION)
    return write(tmp_path / "diffusion", c, tensors(c), statistics(c))


def edit_steps(folder, change, name=PRE):
    path = folder / f"{name}.json"
    data = json.loads(path.read_text())
    change(data["steps"])
    path.write_text(json.dumps(data))


def drop_statistic(folder, key, name=PRE):
    for path in folder.glob(f"{name}_step_*.safetensors"):
        save_file({n: v for n, v in load_file(path).items() if n != key}, path)


def refuses(folder, *words):
    with pytest.raises(ValueError, match=".*".join(words)):
        load(folder)


def test_the_unchanged_folders_load(act, diffusion):
    assert len(load(act).report.used) == len(load_file(act / "model.safetensors"))
    assert len(load(diffusion).report.used) == len(load_file(diffusion / "model.safetensors"))


def test_unknown_key_with_the_nearest_name(act, diffusion):
    edit(act, dim_modle=16)
    refuses(act, "dim_modle", "dim_model")
    edit(diffusion, num_inference_step=5)
    refuses(diffusion, "num_inference_step", "num_inference_steps")


def test_a_key_of_the_other_policy_is_unknown(act):
    edit(act, horizon=16)
    refuses(act, "horizon")


def test_unknown_type(act):
    edit(act, type="vqbet")
    refuses(act, "type", "act", "smolvla", "vqbet")
    assert {*READING} == {*LOADS}  # What the message offers is what is read.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_obs_steps": 2}, ("n_obs_steps", "2")),
        ({"n_action_steps": 7}, ("n_action_steps", "6", "7")),
        ({"temporal_ensemble_coeff": 0.01}, ("n_action_steps", "1", "4")),
        ({"chunk_size": "six"}, ("chunk_size", "six")),
        ({"use_peft": True}, ("use_peft",)),
        ({"n_heads": 0}, ("heads", "divisor of width 16", "found 0")),
        ({"normalization_mapping": {"STATE": "MEAN"}}, ("STATE", "MEAN_STD", "MEAN")),
    ],
)
def test_values_that_cannot_be(act, change, words):
    edit(act, **change)
    refuses(act, *words)


def test_a_horizon_the_network_cannot_halve(diffusion):
    edit(diffusion, horizon=10)
    refuses(diffusion, "horizon", "4", "10")


def with_cameras(folder, **shapes):
    features = json.loads((folder / "config.json").read_text())["input_features"]
    cameras = {f"observation.images.{n}": {"type": "VISUAL", "shape": shape} for n, shape in shapes.items()}
    edit(folder, input_features={**features, **cameras})
    for path in folder.glob(f"{PRE}_step_*.safetensors"):
        colours = {f"{n}.{key}": torch.full((3, 1, 1), 0.5) for n in cameras for key in ("mean", "std")}
        save_file({**load_file(path), **colours}, path)
    steps = {"features": {**features, **cameras}}
    edit_steps(folder, lambda found: found[3]["config"].update(steps))


def test_a_camera_needs_its_network(act, diffusion):
    with_cameras(act, top=[3, 40, 40])
    refuses(act, "missing", "model.backbone.conv1.weight")
    with_cameras(diffusion, top=[3, 40, 40])
    refuses(diffusion, "missing", "diffusion.rgb_encoder.0.backbone.0.weight")


def test_a_camera_needs_its_statistics(act):
    with_cameras(act, top=[3, 40, 40])
    drop_statistic(act, "observation.images.top.std")
    refuses(act, "observation.images.top", "std")


@pytest.mark.parametrize("shape", [[40, 40, 3], [40, 40], [1, 40, 40]])
def test_a_camera_of_another_layout(act, shape):
    with_cameras(act, top=shape)
    refuses(act, "observation.images.top", "3, height, width", str(shape[0]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vision_backbone": "resnet35"}, ("vision_backbone", "resnet18", "resnet35")),
        ({"crop_shape": [41, 40]}, ("crop_shape", "40, 40", "observation.images.top", "41, 40")),
        ({"resize_shape": [30, 30], "crop_ratio": 1.5}, ("crop_ratio", "1.5")),
    ],
)
def test_what_cannot_be_seen(diffusion, change, words):
    with_cameras(diffusion, top=[3, 40, 40])
    edit(diffusion, **change)
    refuses(diffusion, *words)


def test_cameras_of_two_sizes_where_one_network_reads_all(diffusion):
    with_cameras(diffusion, top=[3, 40, 40], wrist=[3, 36, 40])
    refuses(diffusion, "observation.images.top", "observation.images.wrist", "36")


def test_blocks_that_nobody_can_dilate(act):
    with_cameras(act, top=[3, 40, 40])
    edit(act, replace_final_stride_with_dilation=True)
    refuses(act, "replace_final_stride_with_dilation", "resnet18")


@pytest.fixture
def seeing(tmp_path):
    return materialise(GOLDEN / "diffusion_separate", tmp_path / "seeing")


def test_a_table_of_places_is_checked(seeing):
    name, table = "diffusion.rgb_encoder.1.pool.pos_grid", torch.zeros(6, 2)
    x, y = torch.linspace(-1, 1, 3), torch.linspace(-1, 1, 2)
    table[:, 0], table[:, 1] = x.repeat(2), y.repeat_interleave(3)
    edit_tensors(seeing, lambda found: found.update({name: table}))
    report = load(seeing).report
    assert name in report.ignored
    assert "diffusion.rgb_encoder.0.pool.pos_grid" in report.computed
    edit_tensors(seeing, lambda found: found.update({name: table.flip(1)}))
    refuses(seeing, name, "fixed table")


@pytest.mark.parametrize(
    "name",
    [
        "diffusion.rgb_encoder.1.backbone.7.1.conv2.weight",
        "diffusion.rgb_encoder.0.backbone.1.num_batches_tracked",
        "diffusion.rgb_encoder.0.out.bias",
        "diffusion.rgb_encoder.1.pool.nets.weight",
    ],
)
def test_a_tensor_of_a_camera_missing_misshapen_or_beyond(seeing, name):
    value = load_file(seeing / "model.safetensors")[name]
    edit_tensors(seeing, lambda found: found.pop(name))
    refuses(seeing, "missing", name)
    edit_tensors(seeing, lambda found: found.update({name: torch.ones(2, 7).to(value.dtype)}))
    refuses(seeing, name, r"\(2, 7\)")
    edit_tensors(
        seeing, lambda found: found.update({name: value, name.replace("encoder.", "encoder.2"): value.clone()})
    )
    refuses(seeing, name.replace("encoder.", "encoder.2"))


def test_images_are_those_of_the_camera(seeing):
    policy = load(seeing).policy
    inputs = {n: f.shape for n, f in policy.inputs.items() if f.type == "image"}
    assert inputs == {"observation.images.wrist": (24, 41, 3), "observation.images.top_cam": (24, 41, 3)}
    obs = {
        n: torch.zeros(1, 2, *f.shape, dtype=torch.uint8 if f.type == "image" else None)
        for n, f in policy.inputs.items()
    }
    assert policy.act(obs, rng=torch.Generator()).actions.shape == (1, 7, 3)
    del obs["observation.images.wrist"]
    with pytest.raises(ValueError, match=r"camera 'observation\.images\.wrist'"):
        policy.act(obs, rng=torch.Generator())


def test_data_and_simulators_without_the_cameras_are_refused_with_what_they_have(seeing):
    policy = load(seeing).policy
    dataset = open_dataset(GOLDEN / "lerobot_dataset_v3" / "dataset")
    for fits, where in ((fits_data, dataset), (fits_task, sim.find("pusht")[0])):
        with pytest.raises(ConfigError) as problem:
            fits(policy, where)
        assert "observation.images.top_cam: expected a camera" in str(problem.value)
        assert "(image [" in str(problem.value)


def test_missing_state(act):
    features = json.loads((act / "config.json").read_text())["input_features"]
    edit(act, input_features={n: f for n, f in features.items() if n != "observation.state"})
    refuses(act, "observation.state")


@pytest.mark.parametrize("name", ["model.action_head.bias", "model.vae_encoder_cls_embed.weight"])
def test_missing_tensor(act, name):
    edit_tensors(act, lambda found: found.pop(name))
    refuses(act, "missing", name)


def test_unused_tensor(act, diffusion):
    edit_tensors(act, lambda found: found.update({"model.decoder.layers.1.norm1.weight": torch.ones(16)}))
    refuses(act, "model.decoder.layers.1.norm1.weight")
    edit_tensors(diffusion, lambda found: found.update({"diffusion.unet.extra": torch.ones(1)}))
    refuses(diffusion, "diffusion.unet.extra")


def test_tensor_of_another_shape(diffusion):
    name = "diffusion.unet.final_conv.1.bias"
    edit_tensors(diffusion, lambda found: found.update({name: torch.ones(4)}))
    refuses(diffusion, name, r"\(3,\)", r"\(4,\)")


def test_tensor_that_is_not_finite(diffusion):
    name = "diffusion.unet.final_conv.1.bias"
    edit_tensors(diffusion, lambda found: found[name].fill_(torch.nan))
    refuses(diffusion, name, "finite")


def test_a_step_named_by_its_class_is_not_imported(act, tmp_path, monkeypatch):
    (tmp_path / "stolen.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    edit_steps(act, lambda steps: steps.insert(0, {"class": "stolen.Step", "config": {}}))
    refuses(act, "steps.0.", "stolen.Step", "imported")


def test_unknown_step(act, diffusion):
    edit_steps(act, lambda steps: steps.insert(0, {"registry_name": "relative_actions_processor", "config": {}}))
    refuses(act, "relative_actions_processor")
    edit_steps(diffusion, lambda steps: steps.append({"registry_name": "clip_processor", "config": {}}), POST)
    refuses(diffusion, "clip_processor")


def test_a_step_that_is_no_object(act):
    edit_steps(act, lambda steps: steps.append("clip"), POST)
    refuses(act, f"{POST}.json", r"steps\[2\]: expected an object, found 'clip'")


def test_two_observations_that_become_one(act):
    names = {"left": "observation.state", "right": "observation.state"}
    edit_steps(act, lambda steps: steps[0].update(config={"rename_map": names}))
    refuses(act, "rename_map: expected one name that becomes 'observation.state', found .'left', 'right'.")


def test_unknown_key_of_a_step(act):
    edit_steps(act, lambda steps: steps[3]["config"].update(epsilon=1e-3))
    refuses(act, "epsilon", "eps")


@pytest.mark.parametrize("name", [PRE, POST])
def test_a_step_that_scales_must_be_there(act, name):
    edit_steps(act, lambda steps: steps.__delitem__(3 if name == PRE else 0), name)
    refuses(act, "normalizer_processor")


def test_one_processor_file_is_not_enough(act):
    (act / f"{POST}.json").unlink()
    with pytest.raises((ConfigError, FileNotFoundError), match=f"{POST}.json"):
        load(act)


@pytest.mark.parametrize(("name", "key"), [(PRE, "observation.state.mean"), (PRE, "action.std"), (POST, "action.mean")])
def test_missing_statistic(act, name, key):
    drop_statistic(act, key, name)
    refuses(act, *key.rsplit(".", 1))


def test_missing_state_file(act):
    next(act.glob(f"{PRE}_step_*.safetensors")).unlink()
    with pytest.raises(FileNotFoundError, match="normalizer_processor"):
        load(act)


def test_a_state_file_outside_the_folder(act):
    edit_steps(act, lambda steps: steps[3].update(state_file="../elsewhere.safetensors"))
    refuses(act, "elsewhere")


@pytest.fixture
def legacy(tmp_path):
    c = config(ACT, "0.3")
    return write(tmp_path / "legacy", c, tensors(c), statistics(c), legacy=True)


def test_legacy_is_recognised(legacy):
    assert "0.3.3" in str(load(legacy).report)


def test_legacy_buffer_never_initialised(legacy):
    name = "normalize_inputs.buffer_observation_state.mean"
    edit_tensors(legacy, lambda found: found[name].fill_(torch.inf))
    refuses(legacy, "observation.state", "mean", "finite")


def test_legacy_buffer_missing(legacy):
    name = "unnormalize_outputs.buffer_action.std"
    edit_tensors(legacy, lambda found: found.pop(name))
    refuses(legacy, name)


def test_legacy_directions_are_kept_apart(legacy):
    before = load(legacy)
    edit_tensors(legacy, lambda found: found["unnormalize_outputs.buffer_action.mean"].add_(2))
    after, x = load(legacy), torch.zeros(1, 6, 3)
    torch.testing.assert_close(after.postprocess(x), before.postprocess(x) + 2)
    codecs = before.policy.codec, after.policy.codec
    one, other = (codec.encode(x, {}) for codec in codecs)
    assert torch.equal(one, other)


def test_missing_files(act):
    (act / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load(act)
    (act / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load(act)


def test_broken_files(act):
    (act / "model.safetensors").write_bytes(b"not weights")
    refuses(act, "model.safetensors")


def test_a_training_step_folder(act, tmp_path):
    act.rename(tmp_path / "pretrained_model")
    assert load(tmp_path).report.family == "act"


def test_one_changed_weight_is_noticed(act):
    obs = {"observation.state": torch.ones(1, 1, 5), "observation.environment_state": torch.ones(1, 1, 3)}
    before = load(act)
    edit_tensors(act, lambda found: found["model.encoder.layers.1.linear2.weight"].view(-1)[7].add_(0.5))
    after = load(act)
    one, other = (loaded.predict(loaded.preprocess(obs)) for loaded in (before, after))
    assert (one - other).abs().max() > 1e-4
