"""A policy is judged on the robot it was trained for: joints by name and in order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nextmove import data, jobs, store
from nextmove.config import ConfigError
from nextmove.contracts import Feature
from nextmove.data.names import dimension_names
from nextmove.jobs.tasks.policy import spec_of
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.bc import BC
from nextmove.models.policy.names import compare_names

JOINTS = ["shoulder", "elbow", "gripper"]


@pytest.mark.parametrize(
    "names",
    [
        JOINTS,
        [JOINTS],
        {"motors": JOINTS},
        {"axes": [JOINTS[:2], JOINTS[2:]]},
        {"arm": JOINTS[:2], "hand": JOINTS[2:]},
        {"gripper": 2, "shoulder": 0, "elbow": 1},
    ],
)
def test_names_in_every_form(names: object) -> None:
    assert dimension_names(names, 3) == tuple(JOINTS)


@pytest.mark.parametrize("names", [None, [], ["state"], {"motors": JOINTS[:2]}, 3, [1, 2, 3]])
def test_what_names_no_dimensions_is_absent(names: object) -> None:
    assert dimension_names(names, 3) == ()


robot = PolicySpec.of_states
SPEC = PolicySpec({"observation.state": Feature("state", (2,), ("x", "y"))}, 2, 10.0, ("x", "y"))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (("y", "x"), r"arm: action: expected the order \[x, y\], as the policy was trained, found \[y, x\]"),
        (("x", "z"), r"arm: action: expected \[x, y\], as the policy was trained, found \[x, z\]"),
        (("x1", "y2"), r"arm: action: expected \[x, y\]"),
    ],
)
def test_other_names_and_another_order_are_refused(found: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compare_names(SPEC, {"observation.state": ("x", "y"), "action": found}, "arm")


def test_names_that_say_nothing_are_named_and_no_error() -> None:
    message = compare_names(SPEC, {"observation.state": ("motor_0", "motor_1"), "action": ()}, "arm")
    assert message == ["observation.state (arm has no names)", "action (arm has no names)"]
    nameless = PolicySpec.of_states({"observation.state": 2}, 2, 10.0)
    assert len(compare_names(nameless, {"action": ("x", "y")}, "arm")) == 2
    numbered = PolicySpec({}, 2, 10.0, ("joint_1", "joint_2"))
    assert compare_names(numbered, {"action": ("joint_1", "joint_2")}, "arm") == []
    with pytest.raises(ConfigError, match="expected the order"):
        compare_names(numbered, {"action": ("joint_2", "joint_1")}, "arm")


def arm(root: Path, names: object) -> Path:
    rng, vector = np.random.default_rng(0), {"dtype": "float32", "shape": [2], "names": names}
    writer = data.DatasetWriter(root, {"observation.state": vector, "action": vector}, 10)
    for _ in range(2):
        writer.add_episode(
            {n: rng.normal(size=(9, 2)).astype(np.float32) for n in ("observation.state", "action")}, "x"
        )
    writer.finalize()
    return root


@pytest.mark.usefixtures("unrendered")
def test_a_model_keeps_the_names_and_is_judged_by_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = arm(tmp_path / "own", {"motors": ["pan", "lift"]})
    spec = spec_of(data.open_dataset(own))
    assert spec.names == {"observation.state": ("pan", "lift"), "action": ("pan", "lift")}
    policy = jobs.train("bc", own, out=tmp_path / "run", steps=2, threads=1, recipe=BC(), holdout=0)
    assert store.load(tmp_path / "run" / "model").spec == policy.spec == spec
    assert "compared by name" not in jobs.evaluate(tmp_path / "run", data=own)["task"]
    turned = arm(tmp_path / "turned", ["lift", "pan"])
    with pytest.raises(ConfigError, match=r"turned: observation.state: expected the order \[pan, lift\]"):
        jobs.evaluate(tmp_path / "run", data=turned)
    nameless = arm(tmp_path / "nameless", None)
    message = jobs.evaluate(tmp_path / "run", data=nameless)["task"]
    assert "Joints could not be compared by name: observation.state (" in message
    capsys.readouterr()


def test_models_from_before_names_were_kept_load(tmp_path: Path) -> None:
    store.save(store.create("bc", PolicySpec.of_states({"observation.state": 2}, 2, 10.0)), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {
        "spec": {"kind": "PolicySpec", "features": {"observation.state": 2}, "action": 2, "fps": 10.0},
        "format": 2,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert store.load(tmp_path).spec.names == {}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            PolicySpec.of_states({"observation.state": 3}, 2, 10.0),
            "pusht: observation.state: expected width 3, found 2",
        ),
        (
            PolicySpec.of_states({"observation.arm": 2}, 2, 10.0),
            "pusht: observation.arm: expected a feature of width 2",
        ),
        (PolicySpec.of_states({"observation.state": 2}, 7, 10.0), "pusht: action: expected width 7, found 2"),
        (
            PolicySpec({"observation.state": Feature("state", (2,))}, 2, 10.0, ("y", "x")),
            r"pusht: action: expected the order \[y, x\]",
        ),
    ],
)
def test_a_policy_of_another_robot_is_shown_the_way(spec: PolicySpec, message: str, tmp_path: Path) -> None:
    store.save(store.create("bc", spec), tmp_path / "model")
    with pytest.raises(ConfigError, match=f"{message}.*nextmove evaluate RUN --data FOLDER"):
        jobs.evaluate(tmp_path / "model", out=tmp_path)
