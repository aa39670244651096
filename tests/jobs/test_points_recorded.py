"""Policies that see point clouds are trained from a data set, saved, and act."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nextmove import data, jobs, store
from nextmove.contracts import ContextSpec, seeded
from nextmove.models.policy.flow_policy_3d import FlowPolicy3d
from nextmove.models.policy.mp1 import Mp1
from nextmove.models.policy.ofp import SelfConsistentPolicy
from nextmove.nn import UNet1d

TINY = UNet1d(widths=(16, 32, 32), time_width=16)
POINTS, STATE = "observation.point_cloud", "observation.state"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> data.Dataset:
    """A blob of points somewhere, and a hand that goes there by displacements."""
    vector = {"dtype": "float32", "shape": [4], "names": ["x", "y", "z", "gripper"]}
    features = {
        STATE: vector,
        POINTS: {"dtype": "float32", "shape": [16, 3], "names": None},
        "action": {**vector, "names": ["dx", "dy", "dz", "gripper"]},
    }
    writer = data.DatasetWriter(tmp_path_factory.mktemp("points") / "set", features, 10)
    rng = np.random.default_rng(0)
    for _ in range(3):
        goal, hand = rng.uniform(-0.3, 0.3, 3), np.zeros(3)
        columns: dict[str, list[Any]] = {name: [] for name in features}
        for _ in range(30):
            action = np.clip((goal - hand) / 0.05, -1, 1)
            columns[STATE].append([*hand, 1])
            columns[POINTS].append(goal + 0.02 * rng.normal(size=(16, 3)))
            columns["action"].append([*action, -1])
            hand = hand + 0.05 * action
        writer.add_episode({name: np.array(value, np.float32) for name, value in columns.items()}, "reach")
    return data.open_dataset(writer.finalize())


def test_a_policy_that_sees_points_is_trained_and_acts(seen: data.Dataset, tmp_path: Path) -> None:
    recipe = FlowPolicy3d()
    small = replace(recipe, decoder=replace(recipe.decoder, trunk=TINY), optim=replace(recipe.optim, batch=8))
    policy = jobs.train("flow-policy-3d", seen.root, out=tmp_path / "run", steps=2, threads=1, recipe=small)
    assert list(policy.inputs) == [POINTS, STATE]
    assert policy.codec.space == "absolute"
    again = store.load(tmp_path / "run")
    rows = np.arange(0, len(seen), 7)
    obs = {name: torch.from_numpy(seen.column(name)[rows][:, None].repeat(2, 1)) for name in (POINTS, STATE)}
    found = again.act(obs, rng=seeded(1)).actions
    assert found.shape == (len(rows), 3, 4)
    torch.testing.assert_close(found, policy.act(obs, rng=seeded(1)).actions)
    # The gripper never moves in the data.
    torch.testing.assert_close(found[..., 3], torch.full((len(rows), 3), -1.0))
    elsewhere = again.act({**obs, POINTS: obs[POINTS] + 0.1}, rng=seeded(1)).actions
    assert not torch.allclose(elsewhere, found)


@pytest.mark.parametrize("recipe", [FlowPolicy3d, Mp1, SelfConsistentPolicy])
def test_the_published_network_is_the_papers(recipe: Any) -> None:
    decoder = recipe.published().decoder
    with torch.device("meta"):
        net = decoder.build(shape=(4, 4), context=ContextSpec(vector=256)).net
    millions = sum(p.numel() for p in net.parameters()) / 1e6
    assert 254 < millions < 257
