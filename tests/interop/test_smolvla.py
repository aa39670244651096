"""SmolVLA in LeRobot's layout: recorded answers, every name of the published size, strict reading, and back again."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks.parity import run
from safetensors.torch import load_file, save_file
from tests.golden.materialise import materialise
from tests.interop.edits import edit
from tokenizers import Tokenizer, models, pre_tokenizers

from nextmove.config import ConfigError
from nextmove.contracts import ObservationError, seeded
from nextmove.encoders.prompt import Prompt
from nextmove.folders import open_folder
from nextmove.interop import smolvla
from nextmove.interop.smolvla import names
from nextmove.interop.smolvla.composed import composed
from nextmove.interop.smolvla.config import KNOWN, SmolVlaConfig
from nextmove.interop.smolvla.loading import build
from nextmove.models.policy.smolvla import SmolVla

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = ("smolvla_small", "smolvla_half_expert")
MARKS = (5, 7)
HEAD = "model.action_out_proj.weight"


@pytest.fixture
def small(tmp_path):
    return materialise(GOLDEN / CASES[0], tmp_path / "case")


def words(folder):
    """A tokenizer of letters beside the weights, with the marks of the case."""
    letters = {c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz \n", 20)}
    backend = Tokenizer(models.WordLevel({"?": 0} | letters, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.save(str(folder / "tokenizer.json"))
    return folder


def observed(policy, **extra):
    rng = seeded(1)
    images = {n: torch.randint(0, 256, (1, 1, *f.shape), generator=rng, dtype=torch.uint8)
              for n, f in policy.inputs.items() if f.type == "image"}  # fmt: skip
    state = torch.randn(1, 1, policy.inputs["observation.state"].width, generator=rng)
    return {**images, "observation.state": state, "task": ["up"], **extra}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(name, tmp_path):
    result = run(GOLDEN / name, tmp_path)
    assert "error" not in result
    assert result["max_abs_diff"] < 2e-5
    assert result["loss_diff"] < 1e-5
    assert "not_compared" not in result


@pytest.mark.parametrize("weight", ["vlm.model.connector.modality_projection.proj", "lm_expert.layers.1.mlp.gate_proj"])
def test_a_changed_weight_shows(weight, small, tmp_path):
    tensors = load_file(small / "model.safetensors")
    tensors[f"model.vlm_with_expert.{weight}.weight"] += 0.1
    save_file(tensors, small / "model.safetensors")
    (small / "weights.json").unlink()
    assert run(small, tmp_path / "unused")["max_abs_diff"] > 1e-4


def file_names():
    """Name -> shape of every tensor that LeRobot 0.6.1 writes at the published size."""
    found = {}
    for line in (GOLDEN / "smolvla_keys.txt").read_text().splitlines():
        name, shape, layers = re.fullmatch(r"(\S+) \[(.*)\] ?(\S*)", line).groups()
        shape = tuple(map(int, shape.split(", ")))
        numbers = range(*map(int, layers.split(":"))) if layers else [None]
        found |= {name if i is None else name.replace("*", str(i)): shape for i in numbers}
    return found


def test_every_name_and_number_of_the_published_size():
    config = SmolVlaConfig(
        type="smolvla", input_features=_features("observation.images.a"), output_features=_features(action=True)
    )
    made = composed(config, KNOWN[config.vlm_model_name], ids=49280, prompt=Prompt(classes=49280), marks=None, fps=30)
    published = SmolVla.published()
    assert made.recipe.encoder == published.encoder
    assert (made.recipe.decoder, made.recipe.actions) == (published.decoder, published.actions)
    assert made.recipe.optim == published.optim
    policy = build(made)
    assert sum(weight.numel() for weight in policy.parameters()) == 450_046_176
    own, found = policy.state_dict(), {}
    for ours, parts in names.table(own, made.heads).items():
        assert sum(rows for _, rows in parts) == len(own[ours])
        found |= {name: (rows, *own[ours].shape[1:]) for name, rows in parts}
    assert found == file_names()
    assert set(own) - set(names.table(own, made.heads)) == {n for n in own if ".scale." in n}


def _features(*cameras, action=False):
    from nextmove.interop.lerobot.config import Feature

    if action:
        return {"action": Feature("ACTION", (6,))}
    return {"observation.state": Feature("STATE", (6,))} | {n: Feature("VISUAL", (3, 256, 256)) for n in cameras}


@pytest.mark.parametrize("name", CASES)
def test_it_is_written_as_it_came(name, tmp_path):
    folder = words(materialise(GOLDEN / name, tmp_path / "case"))
    loaded = smolvla.load(folder, marks=MARKS)
    loaded.policy.encoder.scale.set({"mean": [0.5] * 8, "std": [2.0] * 8} if name == CASES[1] else {
        "mean": [0.5] * 6, "std": [2.0] * 6})  # fmt: skip
    smolvla.export(loaded.policy, tmp_path / "out")
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert all(before[key].equal(after[key]) for key in before)
    old, new = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path / "out"))
    left = {"prefix_length"} if name == CASES[1] else set()
    assert {key for key in old if old[key] != new.get(key)} == left
    again = smolvla.load(tmp_path / "out", marks=MARKS)
    assert [note for note in again.report.notes if "prefix" in note or "processor" in note] == []
    obs = observed(loaded.policy)
    plans = [one.policy.act(obs, rng=seeded(0)).actions for one in (loaded, again)]
    torch.testing.assert_close(*plans, rtol=0, atol=1e-6)


def test_words_become_the_ids_of_the_folders_tokenizer(small):
    policy = open_folder(words(small)).foreign(fps=10).policy
    obs = observed(policy)
    encoder = policy.encoder
    with torch.inference_mode():
        pictures = [encoder.seen(obs, name, 1) for name in encoder.cameras]
        ids = torch.tensor([[20 + ord(c) - ord("a") for c in "up"] + [47]])
        ctx = encoder.prefix(pictures, ids, None, encoder.shown(obs))
        found = policy.context(obs)
    assert all(a.keys.equal(b.keys) for a, b in zip(ctx.memory.layers, found.memory.layers, strict=True))


def test_cameras_may_be_absent_where_there_are_places_for_empty_ones(tmp_path):
    folder = words(materialise(GOLDEN / CASES[1], tmp_path / "case"))
    policy = smolvla.load(folder, marks=MARKS).policy
    assert list(policy.encoder.cameras) == ["observation.images.cam1", "observation.images.cam2"]
    obs = observed(policy)
    plans = []
    for name in (None, "observation.images.cam2"):
        seen = {key: value for key, value in obs.items() if key != name}
        plans.append(policy.act(seen, rng=seeded(0)).actions)
    assert not plans[0].equal(plans[1])


def test_bad_input_is_named(small):
    policy = smolvla.load(words(small)).policy
    obs = observed(policy)
    del obs["observation.images.wrist"]
    with pytest.raises(ObservationError, match=r"expected camera 'observation\.images\.wrist'"):
        policy.act(obs, rng=seeded(0))
    with pytest.raises(ValueError, match="expected at most 6 ids, found 8"):
        policy.act(observed(policy, task=["upwards"]), rng=seeded(0))


BAD = {
    "key": ({"num_vlm_layer": 4}, "unknown key 'num_vlm_layer', did you mean 'num_vlm_layers'"),
    "vlm": ({"vlm_model_name": "HuggingFaceTB/SmolVLM2-500M-Video"}, "did you mean 'HuggingFaceTB/SmolVLM2-500M-V"),
    "experts": ({"num_expert_layers": 3}, "num_expert_layers: expected a divisor of 4, found 3"),
    "joint": ({"num_expert_layers": 2, "self_attn_every_n_layers": 2}, "whose matrices do not fit, in LeRobot too"),
    "size": ({"resize_imgs_with_padding": [64, 64]}, "expected the tower's 32 x 32, found [64, 64]"),
    "wide": ({"max_action_dim": 4}, "max_action_dim: expected at least the 6 of 'action', found 4"),
    "aloha": ({"adapt_to_pi_aloha": True}, "adapt_to_pi_aloha: expected false"),
    "marks": ({"add_image_special_tokens": True}, "expected tokenizer.json in the folder"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_config_is_named(name, small):
    values, message = BAD[name]
    if name == "vlm":
        (small / "vlm_config.json").unlink()
    with pytest.raises(ConfigError, match=re.escape(message)):
        smolvla.load(edit(small, **values))


def test_a_wrong_tensor_is_named(small):
    whole = load_file(small / "model.safetensors")
    for change, message in (
        (lambda t: t.pop("model.vlm_with_expert.lm_expert.layers.1.self_attn.k_proj.weight"), "missing tensor"),
        (lambda t: t.update({"model.extra": t[HEAD].clone()}), "model.extra"),
        (lambda t: t.update({HEAD: t[HEAD][:4].clone()}), re.escape(HEAD)),
    ):
        tensors = dict(whole)
        change(tensors)
        save_file(tensors, small / "model.safetensors")
        with pytest.raises(ConfigError, match=message):
            smolvla.load(small)


def test_what_lerobot_has_no_place_for_is_said_at_once(tmp_path):
    loaded = smolvla.load(words(materialise(GOLDEN / CASES[0], tmp_path / "case")))
    recipe = SmolVla()
    sees_all = replace(recipe.decoder, trunk=replace(recipe.decoder.trunk, causal=False))
    policy = replace(recipe, decoder=sees_all).build(loaded.policy.spec)
    with pytest.raises(ConfigError, match="words read as bytes") as found:
        smolvla.export(policy, tmp_path / "out")
    assert "not causal" in str(found.value)
    assert not (tmp_path / "out").exists()
