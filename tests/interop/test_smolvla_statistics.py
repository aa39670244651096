"""Scales of SmolVLA in LeRobot's layout: every mode, other names, statistics in weights, steps that are wrong."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.golden.materialise import materialise
from tests.interop.edits import edit
from tests.interop.test_smolvla import GOLDEN, MARKS, observed, words

from nextmove.config import ConfigError
from nextmove.contracts import seeded
from nextmove.interop import smolvla
from nextmove.jobs import load_policy
from nextmove.store import load, save

STATE, ACTION, WIDTH = "observation.state", "action", 6
PRE, POST = "policy_preprocessor", "policy_postprocessor"
MODES = {"MEAN_STD": ("mean", "std"), "MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "IDENTITY": ()}


@pytest.fixture
def small(tmp_path):
    return words(materialise(GOLDEN / "smolvla_small", tmp_path / "case"))


def statistics(mode):
    """Numbers of both features, by name."""
    values = (torch.linspace(0.5, 1, WIDTH), torch.linspace(2, 3, WIDTH))
    return {f"{name}.{key}": value + own for own, name in enumerate((STATE, ACTION))
            for key, value in zip(MODES[mode], values, strict=bool(MODES[mode]))}  # fmt: skip


def processed(folder, mode="MEAN_STD", visual="IDENTITY", rename=None, leave=(), length=6):
    """A folder with processors as LeRobot 0.6.1 writes them."""
    norms = {"VISUAL": visual, "STATE": mode, "ACTION": mode}
    config = json.loads((edit(folder, normalization_mapping=norms) / "config.json").read_text())
    inputs, outputs = config["input_features"], config["output_features"]

    def scale(name, features):
        how = {"eps": 1e-8, "features": features, "norm_map": norms}
        return {"registry_name": name, "config": how, "state_file": f"{name}.safetensors"}

    pre = [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": rename or {}}},
        {"registry_name": "to_batch_processor", "config": {}},
        {"registry_name": "smolvla_new_line_processor", "config": {}},
        {"registry_name": "tokenizer_processor", "config": {"max_length": length, "padding": "longest"}},
        scale("normalizer_processor", {**inputs, **outputs}),
    ]
    stats = statistics(mode) | {f"{camera}.{key}": torch.full((3, 1, 1), 0.5) for camera in inputs if "images" in camera
                                for key in MODES[visual]}  # fmt: skip
    for file, steps in ((PRE, pre), (POST, [scale("unnormalizer_processor", outputs)])):
        kept = [step for step in steps if step["registry_name"] not in leave]
        (folder / f"{file}.json").write_text(json.dumps({"name": file, "steps": kept}))
        save_file(stats, folder / kept[-1]["state_file"])
    return folder


def moves(policy, obs):
    return policy.act(obs, rng=seeded(0)).actions


def by_hand(plain, obs, mode):
    """What the policy without statistics plans of states scaled here, scaled back here; LeRobot's formulas."""
    stats, keys = statistics(mode), MODES[mode]
    low, high = ([stats[f"{name}.{key}"] for name in (STATE, ACTION)] for key in keys) if keys else ((0, 0), (1, 1))
    if mode in ("MEAN_STD", "IDENTITY"):
        shown = (obs[STATE] - low[0]) / high[0]
        return moves(plain, {**obs, STATE: shown}) * high[1] + low[1]
    shown = 2 * (obs[STATE] - low[0]) / (high[0] - low[0]) - 1
    return (moves(plain, {**obs, STATE: shown}) + 1) * (high[1] - low[1]) / 2 + low[1]


@pytest.mark.parametrize("mode", MODES)
def test_states_and_actions_are_scaled_as_the_processors_say_and_stay_so(mode, small, tmp_path):
    plain = smolvla.load(small, marks=MARKS).policy
    obs = observed(plain)
    policy = smolvla.load(processed(small, mode), marks=MARKS).policy
    found = moves(policy, obs)
    torch.testing.assert_close(found, by_hand(plain, obs, mode), rtol=0, atol=1e-4)
    save(policy, tmp_path / "saved")
    assert moves(load(tmp_path / "saved"), obs).equal(found)
    smolvla.export(policy, tmp_path / "out")
    again = smolvla.load(tmp_path / "out", marks=MARKS).policy
    torch.testing.assert_close(moves(again, obs), found, rtol=0, atol=1e-5)


def test_observations_may_come_by_other_names(small):
    old = "observation.images.top"
    policy = smolvla.load(processed(small), marks=MARKS).policy
    obs = observed(policy)
    rename = {"observation.images.front": old, "observation.joints": STATE}
    loaded = smolvla.load(processed(small, rename=rename), marks=MARKS)
    assert any("renamed" in note for note in loaded.report.notes)
    other = {{new: raw for raw, new in rename.items()}.get(name, name): value for name, value in obs.items()}
    assert moves(loaded.policy, other).equal(moves(policy, obs))


def test_statistics_in_the_weights_are_those_in_force_without_processors(small):
    policy = smolvla.load(processed(small), marks=MARKS).policy
    obs = observed(policy)
    for file in (PRE, POST):
        (small / f"{file}.json").unlink()
    tensors, stats = load_file(small / "model.safetensors"), statistics("MEAN_STD")
    places = {"normalize_inputs.buffer_observation_state": STATE, "normalize_targets.buffer_action": ACTION,
              "unnormalize_outputs.buffer_action": ACTION}  # fmt: skip
    held = {f"{n}.{key}": stats[f"{feature}.{key}"].clone() for key in ("mean", "std") for n, feature in places.items()}
    save_file(tensors | held, small / "model.safetensors")
    loaded = smolvla.load(small, marks=MARKS)
    assert {*held} < {*loaded.report.used}
    torch.testing.assert_close(moves(loaded.policy, obs), moves(policy, obs), rtol=0, atol=1e-6)
    save_file(tensors | {name: value * torch.inf for name, value in held.items()}, small / "model.safetensors")
    never = smolvla.load(small, marks=MARKS).report
    assert "never set" in never.ignored["normalize_inputs.buffer_observation_state.mean"]
    assert any("as the networks see them" in note for note in never.notes)


def test_what_is_not_done_to_pictures_and_words_is_refused(small):
    for change, message in (
        (
            {"visual": "MEAN_STD"},
            "VISUAL: expected IDENTITY for smolvla, .* found MEAN_STD for",
        ),
        ({"leave": ("smolvla_new_line_processor",)}, "steps: expected 'smolvla_new_line_processor', found none"),
        ({"length": 48}, "max_length: expected 6, as config.json says, found 48"),
    ):
        with pytest.raises(ConfigError, match=message):
            smolvla.load(processed(small, **change), marks=MARKS)


def test_equal_quantiles_are_said_where_the_policy_is_judged(small, capsys):
    held = statistics("QUANTILES")
    held["action.q99"][1] = held["action.q01"][1]
    folder = processed(small, "QUANTILES")
    for file in ("normalizer_processor", "unnormalizer_processor"):
        save_file(load_file(folder / f"{file}.safetensors") | held, folder / f"{file}.safetensors")
    for _ in range(2):
        load_policy(folder, fps=10)
    said = "action: dimensions [1] have one value between their quantiles; they are shifted, not divided"
    assert capsys.readouterr().out.count(f"{folder}: {said}") == 1
