"""Tokens of a picture that has not changed are kept: plans stay equal, a change is seen, and nothing outlives its
episode."""

import copy
import pickle
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tests.models.test_policies import make
from torch import nn

from nextmove import control
from nextmove.config import ConfigError
from nextmove.contracts import Feature, Rows, seeded, uniform
from nextmove.evaluation.latency import TimedActor, latency
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.openvla_oft import OpenVlaOft
from nextmove.models.policy.smolvla import SmolVla
from nextmove.runtime import compiled, keep_unchanged
from nextmove.runtime.unchanged import Unchanged, change

SPEC = PolicySpec(
    {
        "observation.images.top": Feature("image", (64, 64, 3)),
        "observation.images.wrist": Feature("image", (64, 64, 3)),
        "observation.state": Feature("state", (5,)),
        "task": Feature("text"),
    },
    4,
    10,
)


def built(recipe=None):
    torch.manual_seed(0)
    recipe = SmolVla() if recipe is None else recipe
    # Two layers: what is tested is not how deep they are.
    towers = tuple(replace(tower, layers=2) for tower in recipe.encoder.towers)
    reading = replace(recipe.encoder, language=replace(recipe.encoder.language, layers=2), towers=towers)
    made = replace(recipe, encoder=reading).build(SPEC)
    for weight in made.parameters():
        if weight.dim() > 1:
            nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
    numbers = {"observation.state": torch.randn(32, 1, 5), "action": torch.randn(32, made.horizon, 4)}
    made.fit([{**numbers, "action_is_pad": torch.zeros(32, made.horizon, dtype=torch.bool)}])
    return made.eval()


def seen(top=1, wrist=2, task="push"):
    """One robot's observation; equal numbers are equal pictures."""
    pictures = {
        f"observation.images.{name}": torch.randint(0, 256, (1, 1, 64, 64, 3), generator=seeded(n), dtype=torch.uint8)
        for name, n in (("top", top), ("wrist", wrist))
    }
    return {**pictures, "observation.state": torch.ones(1, 1, 5), "task": [task]}


def plan(policy, obs):
    return policy.act(obs, rng=Rows([seeded(0)])).actions


@pytest.fixture(scope="module")
def policy():
    return built()


@pytest.fixture
def keeping(policy):
    return keep_unchanged(copy.deepcopy(policy), 2.0, 2)


def sight(policy) -> Unchanged:
    return policy.networks()["vision"]


def test_an_equal_picture_is_not_looked_at_again_and_plans_are_equal(policy, keeping):
    looked = []
    sight(keeping).net.register_forward_hook(lambda *_: looked.append(1))
    # Both; none; the wrist alone; the wrist as it was, which is forgotten; both in each other's place; another task.
    for obs, new in (
        (seen(), 2), (seen(), 0), (seen(wrist=3), 1), (seen(), 1), (seen(top=2, wrist=1), 0), (seen(task="pull"), 0),
    ):  # fmt: skip
        before = len(looked)
        assert plan(keeping, obs).equal(plan(policy, obs))
        assert len(looked) - before == new
    assert (sight(keeping).asked, sight(keeping).kept) == (12, 8)


def test_what_another_runtime_computes_is_kept_too(policy, tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="needs openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keeping = keep_unchanged(compiled(copy.deepcopy(policy)), 0.0, 2)
    looked, kept = (plan(keeping, seen()) for _ in range(2))
    assert kept.equal(looked)
    assert (sight(keeping).asked, sight(keeping).kept) == (4, 2)
    torch.testing.assert_close(kept, plan(policy, seen()), rtol=0, atol=1e-4)


def test_any_precision_is_kept(policy):
    keeping = keep_unchanged(copy.deepcopy(policy).double(), 0.0, 2)
    looked, kept = (plan(keeping, seen()) for _ in range(2))
    assert kept.equal(looked)
    assert sight(keeping).kept == 2


def test_small_changes_add_up_until_they_count(policy, keeping):
    first = seen()
    kept = plan(keeping, first)
    obs = copy.deepcopy(first)
    square = obs["observation.images.top"][..., 8:16, 8:16, :]  # One patch of its 8 x 8.
    square.clamp_(0, 200)
    first["observation.images.top"][..., 8:16, 8:16, :].clamp_(0, 200)
    keeping.forget()
    kept = plan(keeping, first)
    for level in (1, 2):
        square += 1
        assert plan(keeping, obs).equal(kept), level
    square += 1
    found = plan(keeping, obs)
    assert not found.equal(kept)
    assert found.equal(plan(policy, obs))


def test_a_change_is_that_of_the_patch_that_differs_most():
    before = torch.zeros(1, 3, 8, 8)
    after = before.clone()
    after[:, 0, :4, 4:] = 30 / 255  # One of 2 x 2 patches, a third of its numbers.
    assert change(before, after, 2) == pytest.approx(10)
    after[:, 0, 0, 0] = torch.nan
    assert not change(before, after, 2) <= 1e9


def test_words_that_steer_a_tower_are_compared_too():
    recipe = OpenVlaOft()
    tower = replace(recipe.encoder.towers[0], film=recipe.encoder.language.width)
    towers = tuple(replace(one, film=tower.film) for one in recipe.encoder.towers)
    policy = built(replace(recipe, encoder=replace(recipe.encoder, towers=towers)))
    keeping = keep_unchanged(copy.deepcopy(policy), 0.0, 2)
    for task, kept in (("push", 0), ("push", 2), ("pull", 2), ("pull", 4)):
        obs = seen(task=task)
        assert plan(keeping, obs).equal(plan(policy, obs))
        assert sight(keeping).kept == kept


def test_weights_that_change_are_noticed_and_copies_remember_nothing(policy, keeping):
    plan(keeping, seen())
    with torch.no_grad():
        next(sight(keeping).net.towers.parameters()).mul_(1.5)
    plan(keeping, seen())
    assert sight(keeping).kept == 0
    for other in (copy.deepcopy(keeping), pickle.loads(pickle.dumps(keeping))):
        assert sight(other)._seen == []
        assert other.state_dict().keys() == policy.state_dict().keys()


def test_several_robots_and_training_are_left_to_the_network(policy, keeping):
    many = {k: v * 2 if k == "task" else v.repeat_interleave(2, 0) for k, v in seen().items()}
    rng = [seeded(0), seeded(1)]
    for _ in range(2):
        found = keeping.act(many, rng=Rows([seeded(0), seeded(1)])).actions
    assert found.equal(policy.act(many, rng=Rows(rng)).actions)
    sight(keeping)(uniform((1, 3, 64, 64), seeded(3))).sum().backward()
    assert sight(keeping).asked == 0


def test_an_episode_begins_with_nothing_kept(keeping):
    timed = TimedActor(keeping, 10.0)
    controller = control.suited(timed)
    observation = {name: value[0] if name == "task" else value[0, -1].numpy() for name, value in seen().items()}
    for episode in range(2):
        controller.reset(seeded(0))
        for _ in range(keeping.n_action_steps + 1):
            controller.step(observation)
        assert (sight(keeping).asked, sight(keeping).kept) == (4 * (episode + 1), 2 * (episode + 1))


def test_a_plan_is_timed_with_all_of_its_pictures(keeping):
    latency(keeping, seen(), n=2, warmup=1)
    assert (sight(keeping).asked, sight(keeping).kept) == (6, 0)
    control.forget(SimpleNamespace())  # An actor need not remember anything.


def test_what_cannot_keep_is_named(policy):
    with pytest.raises(ConfigError, match="unchanged: expected levels of 255 of at least 0, found -1"):
        keep_unchanged(policy, -1, 1)
    with pytest.raises(ConfigError, match=r"unchanged: expected a policy whose language model reads .*; leave it out"):
        keep_unchanged(make("bc"), 1, 1)
