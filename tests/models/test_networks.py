"""Every policy lists the networks that its plans come from, and takes others in their places; so do generators."""

import pytest
import torch
from tests.models.test_pixel_models import GREY
from tests.models.test_pixel_models import made as make_pixels
from tests.models.test_policies import NAMES, make, windows

from nextmove.contracts import seeded
from nextmove.contracts.networks import networks
from nextmove.models.generator import ImageSpec
from nextmove.models.image.flow import FlowMatching
from nextmove.models.image.gan import Gan


class Counted(torch.nn.Module):
    """Calls another network and counts; whatever else is asked of it, it asks of that network."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net, self.calls = net, 0

    def __getattr__(self, name: str):
        if name == "net":
            return super().__getattr__(name)
        found = getattr(self.net, name)
        self.calls += callable(found)  # networks of tokens have a way of their own for one more
        return found

    def forward(self, *given, **named):
        self.calls += 1
        return self.net(*given, **named)


def exchanged(model: torch.nn.Module) -> dict[str, Counted]:
    for name, network in model.networks().items():
        model.exchange(name, Counted(network))
    return model.networks()


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_acts_through_what_it_lists(name):
    policy = make(name).eval()
    obs = {k: v for k, v in windows(policy, 1).items() if k.startswith(("observation", "task"))}
    plan = policy.act(obs, rng=seeded(0)).actions
    listed = exchanged(policy)
    assert list(listed) == ["encoder", "token" if name == "action-tokens" else "step"]
    assert policy.act(obs, rng=seeded(0)).actions.equal(plan)
    assert all(network.calls for network in listed.values())


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (lambda: FlowMatching().build(ImageSpec(8, 8, classes=3)), ["encoder", "step"]),
        (lambda: FlowMatching().build(ImageSpec(8, 8)), ["step"]),
        (lambda: Gan().build(ImageSpec(8, 8)), ["generator"]),
        (lambda: make_pixels("imagegpt", GREY), ["token"]),
    ],
    ids=["flow-labels", "flow", "gan", "imagegpt"],
)
def test_a_generator_draws_through_what_it_lists(model, names):
    torch.manual_seed(0)
    model = model().eval()
    images = model.generate(1, rng=seeded(0))
    listed = exchanged(model)
    assert list(listed) == names
    assert model.generate(1, rng=seeded(0)).equal(images)
    assert all(network.calls for network in listed.values())


def test_what_training_alone_calls_is_not_listed():
    act = make("act")
    assert act.decoder.posterior not in networks(act.decoder).values()


def test_a_name_that_is_none_is_named():
    with pytest.raises(ValueError, match="network: expected one of encoder, step; found 'stepp', did you mean 'step'"):
        make("bc").exchange("stepp", torch.nn.Identity())
