"""pi0 and pi0.5: sizes as published, plans as one of the house's policies, errors that name what is wrong."""

from dataclasses import replace

import pytest
import torch

from nextmove import store, weights
from nextmove.config import ConfigError
from nextmove.contracts import TASK, Feature, ObservationError, seeded
from nextmove.jobs.tasks.looking import described, recipe_for
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.pi0 import Pi0, expert, flow
from nextmove.models.policy.pi05 import Pi05
from nextmove.models.vision_language.paligemma import gemma
from nextmove.nn import count
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm
from nextmove.nn.vit import VisionTower

TOP, WRIST, OWN = "observation.images.top", "observation.images.wrist", "observation.state"
INPUTS = {
    TOP: Feature("image", (24, 20, 3)),
    WRIST: Feature("image", (16, 16, 3), optional=True),
    OWN: Feature("state", (3,)),
    TASK: Feature("text"),
}
SPEC = PolicySpec(INPUTS, 2, 10.0)
TOWER = VisionTower(16, 8, 24, 1, 2, DenseMlp(32), LayerNorm(1e-6), class_token=False, pool="none")


def recipe(kind):
    """One of few weights."""
    own = kind()
    encoder = replace(own.encoder, language=gemma(32, 2, 4, 8, 48), towers=(TOWER,))
    trunk = replace(own.decoder.trunk, width=24, heads=4)
    return replace(
        own, encoder=encoder, decoder=flow(trunk, 2), timing=replace(own.timing, horizon=4, n_action_steps=2)
    )


def batch(rows=2, **extra):
    rng = seeded(0)
    images = {n: torch.randint(0, 256, (rows, 1, *f.shape), generator=rng, dtype=torch.uint8)
              for n, f in INPUTS.items() if f.type == "image"}  # fmt: skip
    tasks = ["push the block", "open it"][:rows]
    numbers = {OWN: torch.randn(rows, 1, 3, generator=rng), "action": torch.randn(rows, 4, 2, generator=rng)}
    return {**images, **numbers, TASK: tasks, "action_is_pad": torch.zeros(rows, 4, dtype=torch.bool)} | extra


def policy(kind):
    torch.manual_seed(0)
    made = store.create({Pi0: "pi0", Pi05: "pi05"}[kind], SPEC, recipe(kind))
    made.fit([batch()])
    for name, part in made.named_parameters():
        if "adaptive" in name:
            # They begin at 0, so that nothing would be read.
            torch.nn.init.normal_(part, std=0.2)
    return made.eval()


@pytest.mark.parametrize(("kind", "size"), [(Pi0, 3_238_048_528), (Pi05, 3_353_433_872)])
def test_published_sizes(kind, size):
    with weights.without_storage():
        made = kind.published().build(SPEC)
    assert count(made) == size


@pytest.mark.parametrize("kind", [Pi0, Pi05])
def test_it_trains_acts_and_is_saved_as_every_policy(kind, tmp_path):
    made = policy(kind)
    loss = made.loss(batch(), rng=seeded(1))["velocity"]
    loss.backward()
    trained = {n for n, w in made.named_parameters() if w.grad is not None and bool(w.grad.any())}
    assert any(n.startswith("encoder.towers") for n in trained), "gradients reach what sees"
    obs = {n: v for n, v in batch().items() if n in INPUTS}
    chunk = made.act(obs, rng=seeded(2))
    assert chunk.actions.shape == (2, 4, 2)
    again = store.load(store.save(made, tmp_path / "saved"))
    torch.testing.assert_close(again.act(obs, rng=seeded(2)).actions, chunk.actions)
    other = obs | {TASK: ["lift the block", "open it"]}
    moved = made.act(other, rng=seeded(2)).actions
    assert not torch.allclose(moved[0], chunk.actions[0]), "the instruction is read"
    assert torch.allclose(moved[1], chunk.actions[1])


@pytest.mark.parametrize("kind", [Pi0, Pi05])
def test_in_bf16_plans_are_nearly_the_same(kind):
    made = policy(kind)
    obs = {n: v for n, v in batch().items() if n in INPUTS}
    whole = made.act(obs, rng=seeded(2)).actions
    for name, part in made.named_parameters():
        part.data = part.data.to(torch.bfloat16)
        if name.startswith("decoder.net.head") or (
            "stream" in name and name.endswith("norm.weight") and "tow" not in name
        ):
            part.data = part.data.float()
    half = made.act(obs, rng=seeded(2)).actions
    assert half.dtype == torch.float32
    assert float((half - whole).abs().max()) < 0.1 * float(whole.abs().max())


def test_what_the_words_say_of_a_state():
    made = policy(Pi05)
    low, high = made.encoder.scale.decode(torch.tensor([-1.0, -1.0, -1.0])), made.encoder.scale.decode(torch.ones(3))
    told = made.encoder.shown({OWN: torch.stack([low, high])[:, None]})
    texts = made.encoder.config.prompt.texts(["a_b", "c"], told)
    assert texts[1] == "Task: c, State: 255 255 255;\nAction: "
    assert texts[0].startswith("Task: a b, State: ")


def test_errors_name_what_is_wrong():
    made = policy(Pi0)
    obs = {n: v for n, v in batch().items() if n in INPUTS}
    made.act({n: v for n, v in obs.items() if n != WRIST}, rng=seeded(2))
    with pytest.raises(ObservationError, match=f"camera '{TOP}'"):
        made.act({n: v for n, v in obs.items() if n != TOP}, rng=seeded(2))
    with pytest.raises(ValueError, match="at most 96 ids, found 202 in 'xxx"):
        made.act(obs | {TASK: ["x" * 199, "y"]}, rng=seeded(2))
    with pytest.raises(ValueError, match=r"actions\.width: expected at least the robot's 40, found 32"):
        recipe(Pi0).build(PolicySpec(INPUTS, 40, 10.0))
    with pytest.raises(ValueError, match="state_width: expected at least the states' 40, found 32"):
        recipe(Pi0).build(PolicySpec(INPUTS | {OWN: Feature("state", (40,))}, 2, 10.0))
    own = recipe(Pi0)
    other = replace(own, encoder=replace(own.encoder, cameras=(TOP, "observation.images.left")))
    with pytest.raises(ValueError, match=r"camera: expected 'observation\.images\.left', an input of type image"):
        other.build(SPEC)
    blind = {n: f for n, f in INPUTS.items() if f.type != "image"}
    with pytest.raises(ValueError, match="camera: expected an input of type image"):
        recipe(Pi0).build(PolicySpec(blind, 2, 10.0))


def test_options_that_say_what_it_looks_at_are_those_it_has():
    assert described(policy(Pi0)).endswith("task (--recipe.encoder.cameras and .states say at what)")
    with pytest.raises(ConfigError, match="Pi0 reads cameras, instruction and state by a language model"):
        recipe_for("pi0", INPUTS, parts="state")


def test_it_sees_the_cameras_in_colour_and_the_robots_own_state():
    depth = INPUTS | {"observation.images.depth": Feature("image", (16, 16, 1)),
                      "observation.environment_state": Feature("state", (5,))}  # fmt: skip
    seen = Pi0().seeing(depth).encoder
    assert (seen.cameras, seen.states, seen.state) == ((TOP, WRIST), (OWN,), "vector")
    stateless = Pi0().seeing({n: f for n, f in INPUTS.items() if n != OWN}).encoder
    assert stateless.state == "none"
    assert expert().width == 128
