"""States that are estimated from cameras: what is read when, what a policy is trained on, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from nextmove import store
from nextmove.codecs.batches import Batches
from nextmove.contracts import TASK, Feature, normal, seeded, uniform
from nextmove.encoders import Camera, Instruction, Observation, StateEstimator
from nextmove.jobs.tasks.looking import recipe_for
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.flow_policy import FlowPolicy
from nextmove.nn import Mlp
from nextmove.nn.small_resnet import SmallResNet
from nextmove.nn.text_encoder import TextEncoder

POINTS, IMAGE, ROBOT, GOAL = (
    "observation.environment_state", "observation.image", "observation.state", "observation.goal",
)  # fmt: skip
INPUTS = {
    ROBOT: Feature("state", (2,)),
    POINTS: Feature("state", (4,)),
    GOAL: Feature("state", (4,)),
    IMAGE: Feature("image", (32, 32, 3)),
}
CAMERA = Camera(backbone=SmallResNet((8, 16)), keypoints=8)
ESTIMATOR = StateEstimator(camera=CAMERA, hidden=(32,), share=0.25)


def batch(rows: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Two bright dots, whose places in px are the state, seen twice."""
    rng = seeded(seed)
    place = (4 + 24 * uniform((rows, 2, 2), rng)).round()
    image = torch.zeros(rows, 32, 32, 3)
    for dot in range(2):
        image[torch.arange(rows), place[:, dot, 1].long(), place[:, dot, 0].long(), dot] = 255
    image = F.max_pool2d(image.permute(0, 3, 1, 2), 5, 1, 2).permute(0, 2, 3, 1).to(torch.uint8)
    points = place.flatten(1)
    return {
        ROBOT: normal((rows, 2, 2), rng),
        POINTS: points[:, None].repeat(1, 2, 1),
        GOAL: torch.full((rows, 2, 4), 16.0),
        IMAGE: image[:, None].repeat(1, 2, 1, 1, 1),
        "action": normal((rows, 16, 2), rng),
    }


def policy(estimator: StateEstimator | None = ESTIMATOR):
    recipe = FlowPolicy(encoder=Observation(estimator=estimator))
    recipe = replace(recipe, decoder=replace(recipe.decoder, trunk=Mlp(width=16, depth=1)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = store.create("flow-policy", PolicySpec(INPUTS, 2, 10.0), recipe)
    made.fit(Batches([batch(64)]))
    return made


def test_what_is_estimated_is_read_in_training_only():
    seeing, told = policy(), policy(None)
    assert POINTS in told.inputs
    assert IMAGE not in told.inputs
    assert set(seeing.inputs) == {IMAGE, ROBOT, GOAL}
    assert set(seeing.trained_on) == {IMAGE, ROBOT, GOAL, POINTS}
    assert list(seeing.networks()) == ["estimator", *told.networks()]


def test_it_acts_as_the_policy_of_states_does_on_the_estimate():
    seeing, told = policy().eval(), policy(None).eval()
    told.load_state_dict({n: v for n, v in seeing.state_dict().items() if not n.startswith("estimator.")})
    shown = batch(3, seed=1)
    estimate = seeing.estimator(shown)[POINTS]
    shown.pop(POINTS)
    found = seeing.act(shown, rng=seeded(5)).actions
    expected = told.act({**shown, POINTS: estimate.detach()}, rng=seeded(5)).actions
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_rows_that_are_not_looked_at_get_the_errors_of_those_that_are():
    made, shown = policy().train(), batch(8, seed=2)
    found, terms = made.estimator.trained(shown, seeded(3))
    scale = made.estimator.scale
    errors = (scale.encode(found[POINTS]) - scale.encode(shown[POINTS])).detach()
    own = made.estimator.estimate({IMAGE: shown[IMAGE][:2]}) - scale.encode(shown[POINTS][:2])
    torch.testing.assert_close(errors[:2], own.detach(), rtol=1e-4, atol=1e-5)
    for row in errors[2:]:
        assert min((row - one).abs().max() for one in own.detach()) < 1e-4
    torch.testing.assert_close(terms["estimate"], own.abs().mean())
    # A policy in evaluation mode is judged on the estimate of every row.
    all_rows, _ = made.estimator.trained(shown, None)
    torch.testing.assert_close(all_rows[POINTS], made.estimator(shown)[POINTS])


def test_the_loss_of_a_policy_teaches_the_estimator():
    # One dot, which every seed finds; of two, some runs leave the other at its mean for hundreds of steps.
    made = policy(replace(ESTIMATOR, share=0.5, numbers=("0", "1"))).train()
    optimiser = torch.optim.AdamW(made.parameters(), lr=4e-3)
    for step in range(120):
        terms = made.loss(batch(32, seed=10 + step), rng=seeded(step))
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
    held = batch(64, seed=1)
    error = (made.eval().estimator(held)[POINTS] - held[POINTS])[..., :2].abs().mean()
    spread = (held[POINTS] - held[POINTS].mean((0, 1)))[..., :2].abs().mean()
    assert error < 0.25 * spread


def test_numbers_that_are_not_estimated_are_shown_at_their_mean():
    named = {**INPUTS, POINTS: Feature("state", (4,), ("ax", "ay", "bx", "by"))}
    spec = PolicySpec(named, 2, 10.0)
    recipe = FlowPolicy(encoder=Observation(estimator=replace(ESTIMATOR, numbers=("by", "0"))))
    made = store.create("flow-policy", spec, replace(recipe, decoder=replace(recipe.decoder, trunk=Mlp(16, 1))))
    made.fit(Batches([batch(64)]))
    estimator, shown = made.train().estimator, batch(8, seed=2)
    assert estimator.estimate(shown).shape == (8, 2, 2)
    mean = batch(64)[POINTS].mean((0, 1))
    trained, terms = estimator.trained(shown, seeded(3))
    for found in (estimator(shown)[POINTS], trained[POINTS], estimator.trained(shown, None)[0][POINTS]):
        torch.testing.assert_close(found[..., [1, 2]], mean[[1, 2]].expand(8, 2, 2), rtol=1e-4, atol=1e-4)
        assert found[..., [0, 3]].std() > 0
    told = estimator.scale.encode(shown[POINTS])[:2, :, [0, 3]]
    torch.testing.assert_close(terms["estimate"], (estimator.estimate(shown)[:2] - told).abs().mean())
    with pytest.raises(
        ValueError, match=r"numbers of observation.environment_state, found 'cx'; it has ax, ay, bx, by"
    ):
        replace(ESTIMATOR, numbers=("cx",)).build(named)


def test_the_command_line_asks_for_it_among_the_parts():
    recipe = recipe_for("flow-policy", parts="estimated-state")
    assert recipe.encoder == Observation(estimator=StateEstimator())
    recipe = recipe_for("flow-policy", parts="state,named-state")
    assert recipe.encoder.estimator == StateEstimator(words=Instruction())


def test_what_is_asked_for_in_vain_is_named():
    with pytest.raises(ValueError, match=r"state_estimator: expected 'observation.force'.*found observation.state"):
        policy(replace(ESTIMATOR, state="observation.force"))
    with pytest.raises(ValueError, match=r"state_estimator.share: expected a share above 0, at most 1, found 0"):
        policy(replace(ESTIMATOR, share=0.0))


@pytest.mark.slow
def test_what_is_said_decides_which_thing_is_estimated():
    """Two dots, one of which is named: where it is can be told by who reads the name only."""
    words = Instruction(TextEncoder(16, 1, 2), length=8)
    inputs = {POINTS: Feature("state", (2,)), IMAGE: INPUTS[IMAGE], TASK: Feature("text", ())}

    def told(rows: int, seed: int):
        rng = seeded(seed)
        named = (uniform((rows,), rng) < 0.5).long()
        whole = batch(rows, seed)
        place = whole[POINTS][:, :1].unflatten(-1, (2, 2))[torch.arange(rows), :, named]
        return {
            IMAGE: whole[IMAGE][:, :1],
            POINTS: place,
            TASK: [("red", "green")[one] for one in named],
            "action": whole["action"],
        }

    def error(words) -> float:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = replace(ESTIMATOR, words=words, hidden=(64, 64), share=1.0).build(inputs)
            made.fit(Batches([told(256, 0)]))
            optimiser = torch.optim.Adam(made.parameters(), 3e-3)
            for step in range(300):
                optimiser.zero_grad()
                made.trained(told(64, 1 + step), seeded(step))[1]["estimate"].backward()
                optimiser.step()
        made.eval()
        assert (TASK in made.inputs) == (words is not None)
        with torch.no_grad():
            return float(made.trained(told(256, 9999), None)[1]["estimate"])

    assert error(words) < 0.5 < 0.55 < error(None)
