"""The same policy with noise in place of its cameras' images, judged beside itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.models.seeing import INPUTS, seeing, seen

from nextmove import jobs
from nextmove.config import ConfigError
from nextmove.contracts import Rows, seeded
from nextmove.jobs.evaluate import load_policy
from nextmove.models.policy.bc import BC
from nextmove.models.policy.observed import unseen


def test_noise_stands_in_for_images_alone_and_is_the_rngs() -> None:
    obs = seen(3)
    noise = unseen(obs, INPUTS, seeded(0))
    for name, feature in INPUTS.items():
        assert torch.equal(noise[name], obs[name]) == (feature.type != "image")
    image = noise["observation.images.top"]
    assert image.dtype == torch.uint8
    assert (int(image.min()), int(image.max())) == (0, 255)
    assert torch.equal(unseen(obs, INPUTS, seeded(0))["observation.images.top"], image)
    alone = unseen({n: v[1:2] for n, v in obs.items()}, INPUTS, Rows([seeded(1)]))["observation.images.top"]
    both = unseen({n: v[:2] for n, v in obs.items()}, INPUTS, Rows([seeded(0), seeded(1)]))["observation.images.top"]
    assert torch.equal(alone[0], both[1])


def test_a_blind_policy_acts_the_same_whatever_its_camera_shows() -> None:
    policy = seeing().eval()
    obs = {name: value for name, value in seen(2).items() if name in INPUTS}
    other = {**obs, "observation.images.top": 255 - obs["observation.images.top"]}
    assert not torch.equal(policy.act(obs, rng=seeded(0)).actions, policy.act(other, rng=seeded(0)).actions)
    policy.blind = True
    assert torch.equal(policy.act(obs, rng=seeded(0)).actions, policy.act(other, rng=seeded(0)).actions)
    moved = {**obs, "observation.state": obs["observation.state"] + 1}
    assert not torch.equal(policy.act(obs, rng=seeded(0)).actions, policy.act(moved, rng=seeded(0)).actions)


def test_both_are_judged_on_the_same_episodes(tmp_path: Path, demos: Path) -> None:
    filmed = jobs.record("pusht", out=tmp_path / "set", episodes=2, cameras=("image=40x40",), workers=0)
    run = tmp_path / "run"
    jobs.train("bc", filmed, out=run, steps=1, threads=1)
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
    with pytest.raises(ConfigError, match=r"blind: .*states reads no camera, only observation\..*; leave out --blind"):
        load_policy(states, blind=True)
