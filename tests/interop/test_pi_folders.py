"""pi0 and pi0.5 in LeRobot's layout and openpi's: in strictly, out as it came, all names, every bad folder named."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks.parity import run
from safetensors.torch import load_file, save_file
from tests.interop.edits import edit, edit_tensors

from nextmove import store, weights
from nextmove.codecs.byte_level import byte_tokenizer
from nextmove.config import ConfigError
from nextmove.contracts import TASK, Feature, seeded
from nextmove.folders import open_folder
from nextmove.interop import pi
from nextmove.interop.pi import layout
from nextmove.interop.pi.config import Sizes, Stack
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.pi0 import Pi0
from nextmove.models.policy.pi05 import Pi05
from nextmove.nn.feedforward import DenseMlp

TOP, WRIST, OWN = "observation.images.top", "observation.images.wrist", "observation.state"
PRE = "policy_preprocessor.json"
IDS = 300
SMALL = Sizes(
    replace(Sizes().tower, image=16, patch=8, width=16, layers=1, heads=2, feedforward=DenseMlp(24)),
    Stack(32, 2, 48, 4, 1, 8),
    Stack(16, 2, 24, 4, 1, 8),
    IDS,
)
KINDS = ["pi0", "pi05"]
GOLDEN = Path(__file__).parents[1] / "golden"
CASES = [f"{kind}_{case}" for kind in KINDS for case in ("small", "one_camera")]
SAVED = {TOP: (20, 16), WRIST: (16, 16)}


def config(kind, **changes):
    features = {n: {"type": "VISUAL", "shape": [3, *size]} for n, size in SAVED.items()}
    features[OWN] = {"type": "STATE", "shape": [3]}
    scaling = "QUANTILES" if kind == "pi05" else "MEAN_STD"
    return {
        "type": kind, "input_features": features, "output_features": {"action": {"type": "ACTION", "shape": [2]}},
        "image_resolution": [16, 16], "chunk_size": 4, "n_action_steps": 2, "num_inference_steps": 2,
        "max_state_dim": 4, "max_action_dim": 4, "pretrained_revision": None, "tokenizer_max_length": 96,
        "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": scaling, "ACTION": scaling},
    } | changes  # fmt: skip


def stats(width):
    rng = seeded(width)
    mean, std = torch.randn(width, generator=rng), 0.5 + torch.rand(width, generator=rng)
    return {"mean": mean, "std": std, "q01": mean - 2 * std, "q99": mean + 2 * std}


def processors(place, data, changes=None):
    """Both lists of steps as LeRobot 0.6.1 writes them."""
    kind, every = data["type"], {**data["input_features"], **data["output_features"]}
    how = {"eps": 1e-8, "features": every, "norm_map": data["normalization_mapping"]}
    relative = {"enabled": data.get("use_relative_actions", False), "exclude_joints": ["gripper"], "action_names": None}
    words = {"max_length": data["tokenizer_max_length"], "task_key": "task", "padding_side": "right",
             "padding": "max_length", "truncation": True, "tokenizer_name": "google/paligemma-3b-pt-224"}  # fmt: skip
    scale = {"registry_name": "normalizer_processor", "config": how, "state_file": "pre.safetensors"}
    tell = ("pi05_prepare_state_tokenizer_processor_step", {"max_state_dim": 4, "task_key": "task"})
    line = ("pi0_new_line_processor", {})
    pre = [
        *({"registry_name": n, "config": c} for n, c in (
            ("rename_observations_processor", {"rename_map": {}}), ("to_batch_processor", {}),
            tell if kind == "pi05" else line, ("tokenizer_processor", words), ("device_processor", {"device": "cpu"}),
            ("relative_actions_processor", relative),
        )), scale,
    ]  # fmt: skip
    back = {"registry_name": "unnormalizer_processor", "state_file": "post.safetensors",
            "config": {**how, "features": data["output_features"]}}  # fmt: skip
    absolute = {"registry_name": "absolute_actions_processor", "config": {"enabled": relative["enabled"]}}
    post = [back, absolute]
    for step in pre:
        step["config"] = {**step["config"], **(changes or {}).get(step["registry_name"], {})}
    for name, steps in (("policy_preprocessor", pre), ("policy_postprocessor", post)):
        (place / f"{name}.json").write_text(json.dumps({"name": name, "steps": steps}))
    flat = {f"{n}.{k}": v for n, w in ((OWN, 3), ("action", 2)) for k, v in stats(w).items()}
    save_file(flat, place / "pre.safetensors")
    save_file({k: v for k, v in flat.items() if k.startswith("action")}, place / "post.safetensors")


def names(kind, sizes=SMALL):
    """Every tensor of a published file by name, written out here, with its shape."""
    seen, top = "model.paligemma_with_expert.paligemma.model", "model.paligemma_with_expert"
    t, v, e = sizes.tower, sizes.language, sizes.expert
    hidden, patches = t.feedforward.hidden, (t.image // t.patch) ** 2
    eye = f"{seen}.vision_tower.vision_model"
    found = {
        f"{eye}.embeddings.patch_embedding.weight": (t.width, 3, t.patch, t.patch),
        f"{eye}.embeddings.patch_embedding.bias": (t.width,),
        f"{eye}.embeddings.position_embedding.weight": (patches, t.width),
        f"{eye}.post_layernorm.weight": (t.width,), f"{eye}.post_layernorm.bias": (t.width,),
        f"{seen}.multi_modal_projector.linear.weight": (v.width, t.width),
        f"{seen}.multi_modal_projector.linear.bias": (v.width,),
        f"{seen}.language_model.embed_tokens.weight": (sizes.ids, v.width),
        f"{top}.paligemma.lm_head.weight": (sizes.ids, v.width),
        f"{top}.gemma_expert.lm_head.weight": (sizes.ids, e.width),
    }  # fmt: skip
    for i in range(t.layers):
        for part, out, own in (
            *((f"self_attn.{c}_proj", t.width, t.width) for c in ("q", "k", "v", "out")),
            ("mlp.fc1", hidden, t.width), ("mlp.fc2", t.width, hidden),
        ):  # fmt: skip
            found |= {
                f"{eye}.encoder.layers.{i}.{part}.weight": (out, own),
                f"{eye}.encoder.layers.{i}.{part}.bias": (out,),
            }
        found |= {
            f"{eye}.encoder.layers.{i}.layer_norm{n}.{end}": (t.width,) for n in (1, 2) for end in ("weight", "bias")
        }
    for place, s in ((f"{seen}.language_model", v), (f"{top}.gemma_expert.model", e)):
        steered = kind == "pi05" and s is e
        norm = (
            {"dense.weight": (3 * s.width, s.width), "dense.bias": (3 * s.width,)}
            if steered
            else {"weight": (s.width,)}
        )
        found |= {f"{place}.norm.{end}": shape for end, shape in norm.items()}
        rows = {"q": s.heads * s.head, "k": s.pairs * s.head, "v": s.pairs * s.head}
        for i in range(s.layers):
            layer = f"{place}.layers.{i}"
            found |= {f"{layer}.self_attn.{c}_proj.weight": (out, s.width) for c, out in rows.items()}
            found[f"{layer}.self_attn.o_proj.weight"] = (s.width, s.heads * s.head)
            found |= {f"{layer}.mlp.{c}_proj.weight": (s.hidden, s.width) for c in ("gate", "up")}
            found[f"{layer}.mlp.down_proj.weight"] = (s.width, s.hidden)
            for which in ("input_layernorm", "post_attention_layernorm"):
                found |= {f"{layer}.{which}.{end}": shape for end, shape in norm.items()}
    wide = 32 if sizes.ids > IDS else 4
    maps = {"action_in_proj": (e.width, wide), "action_out_proj": (wide, e.width)}
    if kind == "pi05":
        maps |= {"time_mlp_in": (e.width, e.width), "time_mlp_out": (e.width, e.width)}
    else:
        state = 32 if sizes.ids > IDS else 4
        maps |= {"state_proj": (e.width, state), "action_time_mlp_in": (e.width, 2 * e.width),
                 "action_time_mlp_out": (e.width, e.width)}  # fmt: skip
    return found | {
        f"model.{n}.{end}": s[: 1 + (end == "weight")] for n, s in maps.items() for end in ("weight", "bias")
    }


def tensors(kind):
    rng = seeded(7)
    return {name: 0.3 * torch.randn(shape, generator=rng) for name, shape in names(kind).items()}


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp(request.param)
    data = config(request.param)
    (place / "config.json").write_text(json.dumps(data))
    (place / "tokenizer.json").write_text(byte_tokenizer().text)
    save_file(tensors(request.param), place / "model.safetensors")
    processors(place, data)
    return place


@pytest.fixture
def changed(folder, tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def load(place, **options):
    return pi.load(place, sizes=SMALL, fps=10.0, **options)


def seen():
    rng = seeded(1)
    images = {n: torch.randint(0, 256, (2, 1, *s, 3), generator=rng, dtype=torch.uint8) for n, s in SAVED.items()}
    return {**images, OWN: torch.randn(2, 1, 3, generator=rng), TASK: ["push it", "open_the drawer"]}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name, tmp_path):
    result = run(GOLDEN / name, tmp_path)
    assert "error" not in result
    assert result["max_abs_diff"] < 2e-5
    assert result["loss_diff"] < 1e-5
    assert "not_compared" not in result


def test_every_name_is_used_or_left_aside_for_a_reason(folder):
    loaded = load(folder)
    kind = json.loads((folder / "config.json").read_text())["type"]
    heads = {name for name in names(kind) if name.endswith("lm_head.weight")}
    assert {*loaded.report.ignored} == heads
    assert {*loaded.report.used} == names(kind).keys() - heads


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_of_the_published_sizes(kind):
    inputs = {TOP: Feature("image", (224, 224, 3)), OWN: Feature("state", (32,)), TASK: Feature("text")}
    with weights.without_storage():
        policy = {"pi0": Pi0, "pi05": Pi05}[kind].published().build(PolicySpec(inputs, 32, 50.0))
    expected = {n.removeprefix("model."): shape for n, shape in names(kind, Sizes()).items() if "lm_head" not in n}
    found = layout.shapes(layout.table(policy), policy.state_dict())
    assert {name: tuple(value.shape) for name, value in found.items()} == expected


def test_it_is_written_as_it_came(folder, tmp_path):
    loaded = load(folder)
    pi.export(loaded.policy, tmp_path / "out")
    before, after = (load_file(place / "model.safetensors") for place in (folder, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before if "lm_head" not in name)
    head, table = (
        next(n for n in after if n.endswith(end)) for end in ("paligemma.lm_head.weight", "embed_tokens.weight")
    )
    assert torch.equal(after[head], after[table])
    own, theirs = (json.loads((place / "config.json").read_text()) for place in (folder, tmp_path / "out"))
    assert {key: theirs[key] for key in own if key != "pretrained_revision"} == {
        key: value for key, value in own.items() if key != "pretrained_revision"
    }
    again, obs = load(tmp_path / "out"), seen()
    plans = [one.act(obs, rng=seeded(3)).actions for one in (loaded, again)]
    torch.testing.assert_close(plans[0], plans[1], atol=1e-5, rtol=1e-5)


def test_it_goes_through_openpis_layout(folder, tmp_path):
    loaded = load(folder)
    pi.export_openpi(loaded.policy, tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert not any(name.startswith("model.") or "embed_tokens" in name for name in found)
    again = pi.load_openpi(tmp_path / "out", sizes=SMALL, fps=10.0)
    assert open_folder(tmp_path / "out").kind == "openpi"
    assert "statistics of robot" in again.report.notes
    for name, value in loaded.policy.state_dict().items():
        other = again.policy.state_dict()[name]
        torch.testing.assert_close(other, value, atol=2e-6, rtol=2e-6, msg=name)
    with pytest.raises(ConfigError, match="asset: expected one of robot; found 'rob', did you mean 'robot'"):
        pi.load_openpi(tmp_path / "out", sizes=SMALL, asset="rob")
    shutil.copytree(tmp_path / "out" / "assets" / "robot", tmp_path / "out" / "assets" / "arm")
    with pytest.raises(ConfigError, match="asset: expected one of arm, robot to be chosen"):
        pi.load_openpi(tmp_path / "out", sizes=SMALL)
    cameras = {f"observation.images.{name}" for name in ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")}
    assert cameras < again.policy.inputs.keys()


def test_a_state_that_is_not_told(folder, tmp_path):
    """openpi's pi0.5 for LIBERO."""
    if folder.name.startswith("pi00"):
        pytest.skip("pi0 reads no state in words")
    pi.export_openpi(load(folder).policy, tmp_path / "out")
    policy = pi.load_openpi(tmp_path / "out", sizes=SMALL, told_state=False).policy
    assert OWN not in policy.inputs
    assert policy.encoder.config.prompt.texts(["open_it "]) == ["open it\n"]


def test_what_openpi_ties_is_read_under_either_name(changed):
    whole = load(changed)
    file = changed / "model.safetensors"
    held = load_file(file)
    table = next(name for name in held if name.endswith("embed_tokens.weight"))
    head = next(name for name in held if name.endswith("paligemma.lm_head.weight"))
    held[head] = held.pop(table)
    save_file({name.removeprefix("model."): value for name, value in held.items()}, file)
    again = load(changed)
    assert torch.equal(again.policy.encoder.language.embedding.weight, whole.policy.encoder.language.embedding.weight)


def test_a_loaded_policy_is_saved_and_trained_as_every_policy(folder, tmp_path):
    loaded, obs = load(folder), seen()
    again = store.load(store.save(loaded.policy, tmp_path / "saved"))
    torch.testing.assert_close(again.act(obs, rng=seeded(3)).actions, loaded.act(obs, rng=seeded(3)).actions)
    batch = {**obs, "action": torch.zeros(2, 4, 2), "action_is_pad": torch.zeros(2, 4, dtype=torch.bool)}
    again.loss(batch, rng=seeded(0))["velocity"].backward()
    assert again.encoder.language.embedding.weight.grad is not None


def test_bf16_files_stay_so_but_for_gains_and_small_maps(changed):
    file, obs = changed / "model.safetensors", seen()
    whole = load(changed).act(obs, rng=seeded(3)).actions
    save_file({name: value.bfloat16() for name, value in load_file(file).items()}, file)
    loaded = load(changed)
    kinds = {name: value.dtype for name, value in loaded.policy.named_parameters()}
    wide = {name for name, dtype in kinds.items() if dtype == torch.float32}
    assert kinds["encoder.language.embedding.weight"] == kinds["encoder.towers.0.embed.weight"] == torch.bfloat16
    assert "decoder.net.head.weight" in wide
    assert "encoder.language.stream.norm.weight" in wide
    assert all(name.startswith("decoder.net.") or name.endswith("norm.weight") for name in wide)
    half = loaded.act(obs, rng=seeded(3)).actions
    assert float((half - whole).abs().max()) < 0.1 * float(whole.abs().max())


def test_equal_quantiles_are_shifted_and_said(changed):
    if not (changed / "config.json").read_text().count('"pi05"'):
        pytest.skip("pi0 has no quantiles")
    flat = load_file(changed / "pre.safetensors")
    for file in ("pre", "post"):
        held = load_file(changed / f"{file}.safetensors")
        held["action.q99"][1] = held["action.q01"][1]
        if file == "pre":
            held[f"{OWN}.q99"][0] = held[f"{OWN}.q01"][0]
        save_file(held, changed / f"{file}.safetensors")
    loaded = load(changed)
    assert sum("shifted, not divided" in note for note in loaded.report.notes) == 2
    low = flat[f"{OWN}.q01"]
    found = loaded.policy.encoder.scale.encode(torch.stack([low, low + 0.25]))
    assert found[:, 0].tolist() == pytest.approx([-1.0, -0.75])
    made = loaded.policy.codec.scale.decode(torch.tensor([[0.3, 0.3]]))
    assert float(made[0, 1]) == pytest.approx(float(flat["action.q01"][1]))


def test_relative_moves_are_added_to_the_state(changed):
    data = json.loads((changed / "config.json").read_text())
    data |= {"use_relative_actions": True, "action_feature_names": ["x", "gripper"]}
    data["input_features"][OWN]["shape"] = [2]
    held = load_file(changed / "model.safetensors")
    (changed / "config.json").write_text(json.dumps(data))
    save_file(held, changed / "model.safetensors")
    processors(changed, data)
    flat = {f"{n}.{k}": v for n in (OWN, "action") for k, v in stats(2).items()}
    save_file(flat, changed / "pre.safetensors")
    loaded, obs = load(changed), seen()
    moved = {**obs, OWN: obs[OWN][..., :2]}
    x = torch.zeros(2, 4, 4)
    plain = loaded.policy.codec.scale.decode(x[..., :2])
    made = loaded.policy.codec.decode(x, moved)
    torch.testing.assert_close(made[..., 0], plain[..., 0] + moved[OWN][:, -1:, 0])
    torch.testing.assert_close(made[..., 1], plain[..., 1])


def spoil_config(**changes):
    return lambda place: edit(place, **changes)


def spoil_tensors(change):
    return lambda place: edit_tensors(place, change)


def spoil_norms(**modes):
    """Cameras have statistics too."""

    def spoil(place):
        data = json.loads((place / PRE).read_text())
        norm = next(step for step in data["steps"] if step["registry_name"] == "normalizer_processor")
        norm["config"]["norm_map"] |= modes
        (place / PRE).write_text(json.dumps(data))
        held = load_file(place / norm["state_file"])
        cameras = [name for name in norm["config"]["features"] if "images" in name]
        held |= {f"{name}.{key}": torch.full((3,), 0.5) for name in cameras for key in ("mean", "std")}
        save_file(held, place / norm["state_file"])

    return spoil


Q = "model.paligemma_with_expert.gemma_expert.model.layers.1.self_attn.q_proj.weight"
BAD = {
    "part of a file": (spoil_tensors(lambda t: t.pop(Q)), "missing tensor 'paligemma_with_expert.*q_proj.weight'"),
    "another shape": (spoil_tensors(lambda t: t.update({Q: torch.zeros(3, 3)})), r"shape \(32, 16\), found \(3, 3\)"),
    "one too many": (spoil_tensors(lambda t: t.update({Q + "s": torch.zeros(1)})), "belongs to no part"),
    "not finite": (spoil_tensors(lambda t: t[Q].fill_(torch.nan)), "expected finite values"),
    "too many joints": (spoil_config(max_action_dim=1), "max_action_dim: expected at least the 2 of 'action', found 1"),
    "a wide state": (spoil_config(max_state_dim=2), "max_state_dim: expected at least the 3"),
    "no such key": (spoil_config(chunk=1), "unknown key 'chunk'"),
    "other times": (spoil_config(time_sampling_beta_beta=2.0), "time_sampling"),
    "steps apart": (spoil_config(tokenizer_max_length=50), "tokenizer_processor: max_length: expected 50"),
    "not relative": (spoil_config(use_relative_actions=True), "the step of relative actions says enabled False"),
    "scaled pictures": (
        spoil_norms(VISUAL="MEAN_STD"), r"VISUAL: expected IDENTITY for pi0.*, found MEAN_STD for 'observation",
    ),
    "no steps": (lambda place: (place / PRE).unlink(), PRE),
    "another tokenizer": (
        lambda place: (place / "tokenizer.json").write_text('{"version": "1.0", "model": {}}'), "tokenizer.json",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_named(changed, case):
    spoil, message = BAD[case]
    spoil(changed)
    with pytest.raises((ConfigError, FileNotFoundError), match=message):
        load(changed)


def test_names_of_sizes_and_cameras_that_there_are_not(changed):
    with pytest.raises(ConfigError, match=r"optional: expected cameras of .*found 'observation\.images\.left'"):
        load(changed, optional=["observation.images.left"])
    spoil_config(paligemma_variant="gemma_2b_lora")(changed)
    with pytest.raises(ConfigError, match="paligemma_variant: expected one of gemma_2b, gemma_300m; found"):
        pi.load(changed)


def test_a_token_for_an_image_is_no_word(changed):
    data = json.loads((changed / "tokenizer.json").read_text())
    image = {"id": IDS, "content": "<image>", "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}  # fmt: skip
    data["added_tokens"].append(image)
    (changed / "tokenizer.json").write_text(json.dumps(data))
    assert load(changed).policy.encoder.tokenizer.classes == IDS
