"""The same policy with noise in place of its cameras' images and its points, judged beside itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.models.seeing import INPUTS, seeing, seen

from nextmove import jobs
from nextmove.codecs.batches import Batches
from nextmove.codecs.scaled import Mode
from nextmove.config import ConfigError
from nextmove.contracts import Feature, Rows, seeded
from nextmove.encoders import Camera, Cloud, Observation, State
from nextmove.jobs.evaluate import load_policy
from nextmove.models.policy import Timing
from nextmove.models.policy.bc import BC
from nextmove.models.policy.observed import unseen
from nextmove.nn.pointnet import Points3d
from nextmove.nn.small_resnet import SmallResNet

STATE, TOP, CLOUD = INPUTS
CAMERA = Camera(backbone=SmallResNet((8, 16)), keypoints=8)
LOOKING = BC(
    encoder=Observation((State(("observation.state",)), CAMERA)),
    timing=Timing(n_obs_steps=1, horizon=8, n_action_steps=8),
)


def test_noise_stands_in_for_images_and_points_and_is_the_rngs() -> None:
    obs, clouds = seen(3), seeing()._clouds
    noise = unseen(obs, INPUTS, clouds, seeded(0))
    assert torch.equal(noise[STATE], obs[STATE])
    assert noise[TOP].dtype == torch.uint8
    assert (int(noise[TOP].min()), int(noise[TOP].max())) == (0, 255)
    assert noise[CLOUD].shape == obs[CLOUD].shape
    again = unseen(obs, INPUTS, clouds, seeded(0))
    rows = [seeded(0), seeded(1)]
    alone = unseen({n: v[1:2] for n, v in obs.items()}, INPUTS, clouds, Rows(rows[1:]))
    both = unseen({n: v[:2] for n, v in obs.items()}, INPUTS, clouds, Rows([seeded(0), seeded(1)]))
    for name in (TOP, CLOUD):
        assert not torch.equal(noise[name], obs[name])
        assert torch.equal(again[name], noise[name])
        assert torch.equal(alone[name][0], both[name][1])


@pytest.mark.parametrize("scaling", ["min_max", "mean_std"])
def test_noise_of_points_fills_the_room_that_points_were_fitted_in(scaling: Mode) -> None:
    points = torch.rand(8, 2, 64, 6, generator=seeded(0)) * torch.tensor([2.0, 1, 1, 1, 1, 1]) + 5
    part = Cloud(network=Points3d(color=False), scaling=scaling).build({CLOUD: Feature("points", (64, 6))})
    part.fit(Batches([{CLOUD: points}]), 2)
    noise = part.unseen(CLOUD, points, seeded(1))
    assert noise.shape == (8, 2, 64, 3), "colours that are not read have no noise"
    spans = noise.flatten(0, 2).amax(0) - noise.flatten(0, 2).amin(0)
    assert noise.flatten(0, 2).mean(0).tolist() == pytest.approx([6, 5.5, 5.5], abs=0.1)
    assert spans.tolist() == pytest.approx([2, 1, 1], abs=0.05), "spread as data that fill their range"


def test_a_blind_policy_acts_the_same_whatever_it_is_shown() -> None:
    policy = seeing().eval()
    obs = {name: value for name, value in seen(2).items() if name in INPUTS}
    others = [{**obs, TOP: 255 - obs[TOP]}, {**obs, CLOUD: 0.3 * obs[CLOUD].flip(2) + 1}]
    own = policy.act(obs, rng=seeded(0)).actions
    assert not any(torch.equal(policy.act(other, rng=seeded(0)).actions, own) for other in others)
    policy.blind = True
    own = policy.act(obs, rng=seeded(0)).actions
    assert all(torch.equal(policy.act(other, rng=seeded(0)).actions, own) for other in others)
    moved = {**obs, STATE: obs[STATE] + 1}
    assert not torch.equal(own, policy.act(moved, rng=seeded(0)).actions)


@pytest.mark.usefixtures("unrendered")
def test_both_are_judged_on_the_same_episodes(tmp_path: Path, demos: Path) -> None:
    filmed = jobs.record("pusht", out=tmp_path / "set", episodes=2, cameras=("image=40x40",), workers=0)
    run = tmp_path / "run"
    jobs.train("bc", filmed, out=run, steps=1, threads=1, recipe=LOOKING)
    report = jobs.evaluate(run, blind=True, episodes=2, video=0, workers=0)
    assert list(report["policies"]) == ["run", "run-blind"]
    assert "cameras" not in report["policies"]["run"]["facts"]
    assert report["policies"]["run-blind"]["facts"]["cameras"] == "noise in place of their images"
    assert len(report["comparisons"]) == 1
    own, blind = (report["policies"][name]["episodes"] for name in ("run", "run-blind"))
    assert [e["seed"] for e in own] == [e["seed"] for e in blind]
    assert [e["max_reward"] for e in own] != [e["max_reward"] for e in blind]
    assert not list((run / "evaluation").glob("rollouts*"))
    offline = jobs.evaluate(run, blind=True, data=filmed, windows=8, out=tmp_path / "offline")
    assert list(offline["policies"]) == ["run", "run-blind"]
    states = tmp_path / "states"
    jobs.train("bc", demos, out=states, steps=1, threads=1, recipe=replace(BC()))
    with pytest.raises(
        ConfigError, match=r"blind: .*states reads no camera and no points, only observation\..*; leave out --blind"
    ):
        load_policy(states, blind=True)
