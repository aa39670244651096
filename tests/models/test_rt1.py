"""RT-1: the published size, any robot's actions, and that a saved one is whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nextmove import store, weights
from nextmove.codecs.byte_level import byte_tokenizer
from nextmove.contracts import TASK, Feature, seeded
from nextmove.encoders import Observation
from nextmove.encoders.sentence import Sentence
from nextmove.jobs.sentences import begin_sentences
from nextmove.jobs.tasks.looking import recipe_for
from nextmove.models.policy import PolicySpec, Timing
from nextmove.models.policy.rt1 import TOLD, Rt1
from nextmove.nn import count
from nextmove.nn.text_encoder import TextEncoder

CAMERA = "observation.image"
INPUTS = {CAMERA: Feature("image", (48, 40, 3)), "observation.state": Feature("state", (2,)), TASK: Feature("text")}
SPEC = PolicySpec(INPUTS, 2, 10.0)


def observed(batch: int = 2, steps: int = 6) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    return {
        CAMERA: torch.randint(0, 256, (batch, steps, 48, 40, 3), dtype=torch.uint8, generator=generator),
        "observation.state": torch.rand(batch, steps, 2, generator=generator),
        TASK: ["push left", "push right"][:batch],
    }


def fitted(recipe: Any, spec: PolicySpec = SPEC) -> Any:
    torch.manual_seed(0)
    policy = store.create("rt1", spec, recipe)
    policy.fit([{**observed(), "action": torch.rand(2, 6, spec.action)}])
    return policy.eval()


def test_it_has_the_published_number_of_weights() -> None:
    inputs = {CAMERA: Feature("image", (256, 320, 3)), TOLD: Feature("state", (512,))}
    with weights.without_storage():
        policy = Rt1.as_trained().build(PolicySpec(inputs, 13, 3.0))
    assert count(policy) == 35_252_128
    assert policy.shape == (6 * 11,)


def test_published_actions_are_written_as_the_robot_does() -> None:
    inputs = {CAMERA: Feature("image", (256, 320, 3)), TOLD: Feature("state", (512,))}
    with weights.without_storage():
        codec = Rt1.as_trained().build(PolicySpec(inputs, 13, 3.0)).codec
    action = torch.tensor([0, 1, 0, -1, 0, 1, -1.6, 0, 1.6, 1, 0, 0, 3.14159]).expand(1, 6, -1)
    ids = codec.encode(action, {})
    assert ids[0, :11].tolist() == [1, 0, 127, 255, 0, 127, 255, 255, 127, 127, 254]
    torch.testing.assert_close(codec.decode(ids, {}), action, atol=0.03, rtol=0)
    with pytest.raises(ValueError, match="ranges: expected low and high of each of 7 columns"):
        Rt1.as_trained().build(PolicySpec(inputs, 7, 3.0))


def test_the_last_of_six_answers_is_executed(tmp_path: Path) -> None:
    policy = fitted(recipe_for("rt1", INPUTS))
    obs = observed()
    chunk = policy.act(obs, rng=seeded(0))
    assert chunk.actions.shape == (2, 1, 2)
    torch.testing.assert_close(chunk.actions, policy.generate(obs, rng=seeded(0))[:, 5:])
    again = store.load(store.save(policy, tmp_path / "saved"))
    torch.testing.assert_close(again.act(obs, rng=seeded(0)).actions, chunk.actions)
    assert torch.isfinite(policy.loss({**obs, "action": torch.rand(2, 6, 2)}, rng=seeded(0))["nll"])


def test_fewer_frames_are_fewer_steps_of_the_transformer() -> None:
    timing = Timing(n_obs_steps=2, horizon=2, n_action_steps=1, align="first_observation")
    policy = fitted(replace(recipe_for("rt1", INPUTS), timing=timing))
    assert policy.recipe.decoder.trunk.steps == 2
    assert policy.shape == (2 * 2,)
    with pytest.raises(ValueError, match="timing: expected an action for each observed step"):
        replace(Rt1(), timing=Timing(n_obs_steps=2, horizon=4)).build(SPEC)


def test_a_sentence_encoder_comes_with_the_saved_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = Sentence("tiny", TextEncoder(8, 1, 2), classes=byte_tokenizer().classes, positions=64, length=64)
    recipe = recipe_for("rt1", INPUTS)
    camera = replace(recipe.encoder.parts[0], instruction=tiny)
    recipe = replace(recipe, encoder=Observation((camera, *recipe.encoder.parts[1:])))

    net = tiny.network.build(classes=tiny.classes, length=64)
    read = SimpleNamespace(model=SimpleNamespace(net=net, codec=byte_tokenizer()))
    monkeypatch.setattr("nextmove.interop.hf.sentences.load", lambda source: {"tiny": read}[source])
    policy = fitted(recipe)
    assert begin_sentences(policy) == {"encoder.parts.0.instruction": "tiny"}
    expected = policy.act(observed(), rng=seeded(0)).actions
    again = store.load(store.save(policy, tmp_path / "saved"))
    torch.testing.assert_close(again.act(observed(), rng=seeded(0)).actions, expected)
    assert begin_sentences(fitted(recipe_for("rt1", INPUTS))) == {}


def test_what_reads_the_instruction_is_chosen_by_name() -> None:
    assert isinstance(recipe_for("rt1", INPUTS, instruction="minilm").encoder.parts[0].instruction, Sentence)
    assert isinstance(recipe_for("bc-z", INPUTS, instruction="minilm").encoder.parts[0].instruction, Sentence)
    published = recipe_for("rt1", INPUTS, size="published")
    assert isinstance(published.encoder.parts[0].instruction, Sentence)
    with pytest.raises(ValueError, match="--instruction: expected one of bytes, minilm; found 'minlm', did you mean"):
        recipe_for("rt1", INPUTS, instruction="minlm")
    with pytest.raises(ValueError, match="--instruction: BC reads none here"):
        recipe_for("bc", INPUTS, instruction="minilm")
