"""Scales fitted to columns are those of the windows, and no window is kept."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextmove import data, store
from nextmove.encoders import Observation, State
from nextmove.jobs.scales import Columns
from nextmove.jobs.tasks.policy import spec_of, windows
from nextmove.models.policy import Policy
from nextmove.models.policy.act import Act
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.action_tokens import ActionTokens
from nextmove.models.policy.bc import BC
from nextmove.models.policy.diffusion_policy import DiffusionPolicy
from nextmove.models.policy.flow_policy import FlowPolicy
from nextmove.models.policy.lstm_gmm import LstmGmm

LENGTHS = (9, 30, 1, 22, 14)


@pytest.fixture(scope="module")
def planar(tmp_path_factory: pytest.TempPathFactory) -> data.Dataset:
    """A robot, points and their goals in the plane; one feature is wider than float32 and one never moves."""
    widths = {"observation.state": 2, "observation.environment_state": 4, "observation.goal": 4, "action": 2}
    features: dict[str, Any] = {n: {"dtype": "float32", "shape": [w], "names": None} for n, w in widths.items()}
    features["observation.force"] = {"dtype": "float64", "shape": [1], "names": None}
    rng = np.random.default_rng(0)
    writer = data.DatasetWriter(tmp_path_factory.mktemp("planar") / "set", features, 10)
    for length in LENGTHS:
        columns = {n: np.cumsum(rng.normal(size=(length, w)), 0).astype(np.float32) for n, w in widths.items()}
        columns["observation.goal"][:] = (1, 2, 3, 4)
        writer.add_episode(columns | {"observation.force": 300 + rng.normal(size=length)}, "x")
    return data.open_dataset(writer.finalize())


PLAIN = Observation((State(view="plain"),))
RELATIVE = ActionSpace(space="relative")


@pytest.mark.parametrize(
    ("system", "recipe"),
    [
        ("flow-policy", FlowPolicy()),
        ("flow-policy", FlowPolicy(encoder=PLAIN)),
        ("flow-policy", FlowPolicy(encoder=PLAIN, actions=RELATIVE)),
        ("flow-policy", FlowPolicy(encoder=PLAIN, actions=ActionSpace("quantiles"))),
        ("flow-policy", FlowPolicy(actions=ActionSpace("quantiles", per_step=False))),
        ("diffusion-policy", DiffusionPolicy(encoder=PLAIN)),
        ("action-tokens", ActionTokens(encoder=PLAIN)),
        ("action-tokens", ActionTokens(encoder=PLAIN, actions=ActionSpace("mean_std", bins=256))),
        ("lstm-gmm", LstmGmm(encoder=replace(PLAIN, tokens=True))),
        ("act", Act(encoder=PLAIN)),
        ("bc", BC(encoder=PLAIN)),
    ],
)
def test_scales_are_those_of_all_windows(planar: data.Dataset, system: str, recipe: Any) -> None:
    by_columns, made = (store.create(system, spec_of(planar), recipe) for _ in range(2))
    seen = windows(planar, by_columns, np.array([0, 1, 2, 4]))
    by_columns.fit(Columns(seen))
    made.fit([seen.batch(np.arange(len(seen)))])
    fitted = {n: v for n, v in made.state_dict().items() if n.startswith(("encoder.parts.", "codec."))}
    assert fitted
    for name, value in fitted.items():
        np.testing.assert_allclose(by_columns.state_dict()[name], value, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("horizon", [16, 200])
def test_no_window_is_kept_while_scales_are_fitted(
    tmp_path: Path, horizon: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector = {"dtype": "float32", "shape": [8], "names": None}
    writer = data.DatasetWriter(tmp_path / "set", {"observation.state": vector, "action": vector}, 10)
    rng = np.random.default_rng(0)
    for _ in range(4):
        writer.add_episode({n: rng.normal(size=(2000, 8)) for n in ("observation.state", "action")}, "x")
    dataset = data.open_dataset(writer.finalize())
    recipe = BC()
    policy: Policy = store.create(
        "bc", spec_of(dataset), replace(recipe, timing=replace(recipe.timing, horizon=horizon))
    )
    tracemalloc.start()
    policy.fit(Columns(windows(dataset, policy, None)))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The columns are half a megabyte, one copy of the windows' actions 4 and 51.
    assert most < 4e6, most


def test_training_imports_no_compiler_and_no_tables(planar: data.Dataset, tmp_path: Path) -> None:
    code = (
        "import sys; from nextmove.cli.main import main;"
        "assert main(sys.argv[1:]) == 0;"
        "print(*sorted({'torch._dynamo', 'pandas', 'pyarrow.compute', 'scipy', 'sympy'} & sys.modules.keys()))"
    )
    call = ["train", "bc", str(planar.root), "--steps", "1", "--out", str(tmp_path / "run"), "--threads", "1"]
    done = subprocess.run([sys.executable, "-c", code, *call], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
