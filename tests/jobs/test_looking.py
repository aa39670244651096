"""Which recipe a system has for a robot with cameras: chosen by itself, said, and never shown an object's pose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.shown import shown

from nextmove import jobs, store
from nextmove.cli.main import main
from nextmove.config import ConfigError
from nextmove.contracts import Feature, seeded
from nextmove.encoders import Camera, FilmedCamera, State
from nextmove.jobs.tasks.looking import described, inputs_in, recipe_for
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.act import Act
from nextmove.models.policy.diffusion_policy import DiffusionPolicy
from nextmove.models.policy.sight import WORLD, cropped, fitted, own_state
from nextmove.nn import Detr, count
from nextmove.systems import built

ROBOT = {
    "observation.image": Feature("image", (96, 96, 3)),
    "observation.state": Feature("state", (2,)),
    "observation.environment_state": Feature("state", (16,)),
    "observation.goal": Feature("state", (16,)),
    "task": Feature("text"),
}
CLOUDS = ["flow-policy-3d", "mp1", "ofp"]
"""Policies of point clouds, which look at no camera."""
SEEING = [system.name for system in built("policy") if system.name not in CLOUDS]


def read(recipe: Any, inputs: dict[str, Feature] = ROBOT) -> list[str]:
    return list(recipe.build(PolicySpec(inputs, action=2, fps=10.0)).inputs)


@pytest.mark.parametrize("name", SEEING)
def test_where_there_are_cameras_they_are_looked_at_and_no_pose(name: str) -> None:
    found = recipe_for(name, ROBOT)
    assert {"observation.image", "observation.state"} <= set(read(found))
    assert not set(WORLD) & set(read(found))
    states = {key: feature for key, feature in ROBOT.items() if feature.type != "image"}
    if name != "bc-z":
        assert set(WORLD) <= set(read(recipe_for(name, states), states))
        assert set(WORLD) <= set(read(recipe_for(name, ROBOT, parts="state")))


@pytest.mark.parametrize("name", SEEING)
def test_what_it_sees_decides_what_it_does(name: str) -> None:
    policy = recipe_for(name, ROBOT).build(PolicySpec(ROBOT, action=2, fps=10.0)).eval()
    obs = shown(ROBOT, 2, policy.timing.n_obs_steps)
    batch = {**obs, "action": shown({"a": Feature("state", (2,))}, 2, policy.timing.horizon)["a"]}
    policy.fit([batch])
    other = {**obs, "observation.image": obs["observation.image"].flip(0)}
    before, after = (policy.context(one) for one in (obs, other))
    for part in ("vector", "tokens"):
        one, two = getattr(before, part), getattr(after, part)
        assert (one is None) == (two is None)
        if one is not None and (part == "tokens" or before.tokens is None):
            assert not one.allclose(two, atol=1e-3)
    assert all(term.isfinite() for term in policy.train().loss(batch, rng=seeded(0)).values())


def test_parts_named_are_the_recipes_own_in_the_order_asked_for() -> None:
    found = recipe_for("flow-policy", ROBOT, parts="camera,state")
    camera, state = found.encoder.parts
    assert isinstance(camera, Camera)
    assert camera.crop == (84, 84)
    assert isinstance(state, State)
    assert state.features == ("observation.state",)
    alone = recipe_for("act", ROBOT, parts="camera").build(PolicySpec(ROBOT, action=2, fps=10.0))
    assert list(alone.inputs) == ["observation.image"]
    filmed = recipe_for("bc", ROBOT, parts="filmed-camera,state")
    assert isinstance(filmed.encoder.parts[0], FilmedCamera)
    assert read(filmed) == ["observation.image", "task", "observation.state"]
    blind = {name: ROBOT[name] for name in ("observation.image", *WORLD)}
    assert recipe_for("bc", blind).encoder.parts == (camera,)
    with pytest.raises(ConfigError, match="--parts: state: expected one of the robot itself, found observation"):
        recipe_for("bc", blind, parts="state,camera")


def test_the_robots_own_state_is_what_lerobot_calls_so_or_all_but_the_worlds() -> None:
    own = own_state(ROBOT)
    assert own is not None
    assert own.features == ("observation.state",)
    named = {"observation.arm": Feature("state", (6,)), "observation.gripper": Feature("state", (1,))}
    own = own_state({**named, "observation.goal": Feature("state", (3,))})
    assert own is not None
    assert own.features == ("observation.arm", "observation.gripper")
    assert own_state({"observation.goal": Feature("state", (3,))}) is None


@pytest.mark.parametrize(
    ("sizes", "resize", "crop"),
    [
        ([(96, 96)], None, (84, 84)),
        ([(128, 160)], None, (112, 140)),
        ([(224, 224)], (112, 112), (98, 98)),
        ([(480, 640)], (120, 160), (105, 140)),
        ([(96, 96), (480, 640)], (96, 96), (84, 84)),
    ],
)
def test_images_are_read_at_a_size_that_a_cpu_trains(sizes: Any, resize: Any, crop: Any) -> None:
    inputs = {f"observation.images.{i}": Feature("image", (*size, 3)) for i, size in enumerate(sizes)}
    camera = cropped(fitted(Camera(), inputs), inputs)
    assert (camera.resize, camera.crop, camera.features) == (resize, crop, ())
    depth = {**inputs, "observation.depth": Feature("image", (64, 64, 1))}
    assert fitted(Camera(), depth).features == tuple(inputs)
    assert camera.build(inputs).out == 64


def test_published_sizes_are_the_papers() -> None:
    act = Act.published(ROBOT).build(PolicySpec(ROBOT, action=14, fps=50.0))
    camera = act.encoder.parts[1]  # type: ignore[attr-defined]
    assert count(camera) == 11_166_912 + 512 * 513
    assert not any("bn" in name for name, _ in camera.named_parameters())
    net = act.decoder.inner.net  # type: ignore[attr-defined]
    assert isinstance(Act.published(ROBOT).decoder.inner.trunk, Detr)
    assert net.position.weight.shape == (2, 512)
    assert camera.config.crop is None
    policy = DiffusionPolicy.published(ROBOT).build(PolicySpec(ROBOT, action=2, fps=10.0))
    # LeRobot's, of one camera of 96 px cropped to 84, has 262.7 M with its state of 2 and action of 2.
    assert round(count(policy) / 1e6, 1) == 262.7
    assert policy.encoder.parts[1].config.crop == (84, 84)  # type: ignore[attr-defined]
    assert DiffusionPolicy.published() == DiffusionPolicy.published({"observation.state": Feature("state", (2,))})


def test_images_come_to_the_encoder_at_the_size_that_it_reads() -> None:
    large = {**ROBOT, "observation.image": Feature("image", (192, 256, 3))}
    policy = recipe_for("flow-policy", large).build(PolicySpec(large, action=2, fps=10.0)).eval()
    obs = shown(large, 2, 1)
    policy.fit([{**obs, "action": shown({"a": Feature("state", (2,))}, 2, 16)["a"]}])
    seen: list[tuple[int, ...]] = []
    policy.encoder.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0]["observation.image"].shape)))
    plan = policy.act(obs, rng=seeded(0)).actions
    assert seen == [(2, 1, 96, 128, 3)]
    policy._cameras = ()
    assert torch.equal(policy.act(obs, rng=seeded(0)).actions, plan)
    assert seen[1] == (2, 1, 192, 256, 3)


def test_a_camera_that_is_read_smaller_than_it_is_is_said() -> None:
    inputs = {**ROBOT, "observation.images.wrist": Feature("image", (40, 50, 3))}
    policy = recipe_for("act", inputs).build(PolicySpec(inputs, action=2, fps=10.0))
    said = described(policy)
    assert "observation.image (96 x 96 px, read at 40 x 50)" in said
    assert "observation.images.wrist (40 x 50 px)" in said


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("filmed") / "set"
    return jobs.record("pusht", out=out, episodes=3, cameras=("image=40x40",), workers=0)


def test_training_says_what_it_looks_at(filmed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--steps", "1", "--threads", "1", "--recipe.optim.batch", "4", "--no-predict"]
    assert main(["train", "act", str(filmed), "--out", str(tmp_path / "sees"), *args]) == 0
    out = capsys.readouterr().out
    assert "looks at observation.state, observation.image (40 x 40 px) (--parts state: at states alone)" in out
    assert "not used: observation.environment_state, observation.goal" in out
    assert list(store.load(tmp_path / "sees").inputs) == ["observation.state", "observation.image"]
    assert main(["train", "act", str(filmed), "--out", str(tmp_path / "blind"), "--parts", "state", *args]) == 0
    out = capsys.readouterr().out
    assert "looks at observation" not in out
    assert "not used: observation.image" in out
    jobs.train("bc", filmed, out=tmp_path / "python", steps=1, threads=1, predict=False)
    assert "looks at observation.state, observation.image" in capsys.readouterr().out


def test_a_folder_that_is_no_data_set_is_the_trainings_to_name(tmp_path: Path) -> None:
    assert inputs_in(tmp_path / "nowhere") is None
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text("{")
    assert inputs_in(tmp_path) is None
