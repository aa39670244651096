"""What sees and what reads a prefix, each compiled by itself: the same plans, few programs, and products in 8 bits."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from nextmove.config import ConfigError
from nextmove.contracts import Feature, Rows, seeded
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.smolvla import SmolVla
from nextmove.runtime import calibrate, compiled, kept, ranges

pytest.importorskip("openvino", reason="needs openvino")
SPEC = PolicySpec(
    {
        "observation.images.top": Feature("image", (64, 96, 3)),
        "observation.state": Feature("state", (5,)),
        "task": Feature("text"),
    },
    4,
    10,
)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    recipe = SmolVla()
    reading = recipe.encoder
    # Two layers each: what is tested is not how deep they are, and each program is made anew.
    towers = tuple(replace(tower, layers=2) for tower in reading.towers)
    made = replace(recipe, encoder=replace(reading, language=replace(reading.language, layers=2), towers=towers))
    made = made.build(SPEC)
    for weight in made.parameters():
        if weight.dim() > 1:
            nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
    for scale in (made.encoder.scale, made.codec.scale):
        scale.set({"mean": torch.zeros(scale.width), "std": torch.ones(scale.width)})
    return made.eval()


def observed(task="push", seed=1):
    rng = seeded(seed)
    images = torch.randint(0, 256, (1, 1, 64, 96, 3), generator=rng, dtype=torch.uint8)
    return {"observation.images.top": images, "observation.state": torch.randn(1, 1, 5, generator=rng), "task": [task]}


def plan(policy, *given):
    return policy.act(observed(*given), rng=Rows([seeded(0)])).actions


def off(made, reference):
    return float((made - reference).norm() / reference.norm())


def programs(policy):
    return {name: len(network._ready) for name, network in policy.networks().items()}


def test_plans_are_the_same_and_words_of_a_length_share_programs(policy):
    assert list(policy.networks()) == ["vision", "prefix", "step"]
    fast = compiled(copy.deepcopy(policy))
    for task in ("push", "pull it"):
        torch.testing.assert_close(plan(fast, task), plan(policy, task), rtol=0, atol=1e-4)
    assert programs(fast) == {"vision": 1, "prefix": 1, "step": 1}
    assert fast.state_dict().keys() == policy.state_dict().keys()
    assert [n for n, _ in fast.encoder.named_parameters()] == [n for n, _ in policy.encoder.named_parameters()]
    again = copy.deepcopy(fast)
    assert again.encoder.sight.net.towers is again.encoder.towers
    fast.train()
    loss = fast.loss({**observed(), "action": torch.zeros(1, 16, 4)}, rng=seeded(0))["velocity"]
    loss.backward()
    assert all(net.training for net in fast.networks().values())
    assert fast.encoder.towers[0].embed.weight.grad is not None


@pytest.mark.slow
def test_products_in_8_bits_are_near_float32(policy, monkeypatch):
    reference, shown = plan(policy), [observed(seed=seed) for seed in (2, 3)]
    with pytest.raises(ConfigError, match="w8a8 expects ranges"):
        compiled(policy, "w8a8")
    with pytest.raises(ValueError, match="observations: expected at least one"):
        calibrate(policy, [])
    with pytest.raises(ConfigError, match="least_weights: expected at least 1, found 0"):
        calibrate(policy, shown, 0)
    with pytest.raises(ConfigError, match=r"products of at least 262144 weights, .* fewer least_weights"):
        calibrate(policy, shown)
    networks = policy.networks()
    found = calibrate(policy, shown, 1 << 12)
    assert policy.networks() == networks
    assert all(end > 0 for end in found.values())
    few = calibrate(policy, shown, 1 << 14)
    assert few.items() < found.items()
    monkeypatch.setattr(ranges, "products", None)  # What was found is kept, for each least number.
    assert [calibrate(policy, shown, least) for least in (1 << 12, 1 << 14)] == [found, few]
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept.folder().parent))
    fast = compiled(copy.deepcopy(policy), "w8a8", found)
    # Ten steps of a network with random weights carry a rounding far.
    assert 1e-5 < off(plan(fast), reference) < 0.3
    with torch.inference_mode():
        picture = torch.rand(1, 3, 64, 64, generator=seeded(4))
        assert 1e-5 < off(fast.encoder.sight(picture), policy.encoder.sight(picture)) < 0.05


def test_a_range_ends_where_rounding_and_cutting_cost_least():
    values = torch.randn(100_000, generator=seeded(0)).abs().numpy()
    values[0] = 40.0
    assert 10 < ranges.end(values, 40.0) < 40
    flat = torch.rand(100_000, generator=seeded(0)).numpy()
    assert ranges.end(flat, 1.0) > 0.9
