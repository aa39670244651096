"""A suite of two tasks, seen by a camera and told apart by their instructions, from recording to a comparison."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.sim.lamps import FRONT, LAMPS, Lamps

from nextmove import data, jobs, sim
from nextmove.config import ConfigError
from nextmove.data.errors import DataError
from nextmove.encoders import Camera, Instruction, Observation, State
from nextmove.jobs.films import filmed
from nextmove.jobs.robot import unsaid
from nextmove.jobs.simulated import judge, report
from nextmove.jobs.simulators import demonstrated_in, simulators_caution, taught_in
from nextmove.jobs.tasks.looking import recipe_for
from nextmove.jobs.tasks.policy import spec_of, unused
from nextmove.models.policy import Timing
from nextmove.models.policy.bc import BC
from nextmove.nn.small_resnet import SmallResNet
from nextmove.nn.text_encoder import TextEncoder
from nextmove.sim.tasks import suite_of

SEEING = BC(
    encoder=Observation(
        (
            State(),
            Camera(resize=(8, 12), pool="average", backbone=SmallResNet((8, 16))),
            Instruction(TextEncoder(width=8, layers=1, heads=1), length=32),
        )
    ),
    timing=Timing(n_obs_steps=1, horizon=2, n_action_steps=2),
    optim=replace(BC().optim, batch=8),
)


@pytest.fixture(autouse=True)
def lamps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sim.SUITES, "lamps", LAMPS)


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both tasks in one set, every episode with its task's instruction."""
    root = tmp_path_factory.mktemp("lamps") / "set"
    writer = data.DatasetWriter(root, LAMPS[0].entries(["front"]), LAMPS[0].fps)
    for number in range(6):
        for task in LAMPS:
            episode = sim.demonstrate(task, number, cameras=["front"], seed=0, noise=0.1, noisy_share=1.0)
            writer.add_episode(episode.columns, task.instruction)
    writer.finalize()
    return root


@pytest.fixture(scope="module")
def run(demos: Path) -> Path:
    jobs.train("bc", demos, out=demos.parent / "bc", steps=3, threads=1, recipe=SEEING, bf16="off")
    return demos.parent / "bc"


def test_recording_stores_the_tasks_own(tmp_path: Path) -> None:
    made = jobs.record("mirror", out=tmp_path / "set", episodes=3, cameras=("front=16x24",), workers=0)
    dataset = data.open_dataset(made)
    assert dataset.layout.features[FRONT].shape == (16, 24, 3)
    assert list(dataset.tasks.values()) == ["Touch where the lamp is not."]
    assert json.loads((made / "meta" / "info.json").read_text())["robot_type"] == "pointer"
    recorded = json.loads((made / "meta" / "recording.json").read_text())["episode"]
    assert "noise=0.25" in recorded


@pytest.mark.parametrize(
    ("size", "said"),
    [("33x32", "even height and width of at least 4, found 33 x 32"), ("8x8", "the lamps have no square cameras")],
)
def test_sizes_that_cannot_be_recorded_are_refused_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str, said: str
) -> None:
    def square(self: Lamps, task: sim.Task, cameras: dict[str, tuple[int, int]]) -> None:
        if (8, 8) in cameras.values():
            raise sim.SimulatorError("the lamps have no square cameras")
        made(self, task, cameras)

    made = Lamps.__init__
    monkeypatch.setattr(Lamps, "__init__", square)
    with pytest.raises((DataError, sim.SimulatorError), match=f"^(?!episode).*{said}"):
        jobs.record("mirror", out=tmp_path / "set", episodes=3, cameras=(f"front={size}",), workers=1)
    assert not list(tmp_path.iterdir())


def test_a_suite_is_recorded_into_one_set_with_the_task_and_seed_of_every_episode(tmp_path: Path) -> None:
    made = jobs.record("lamps", out=tmp_path / "set", episodes=3, cameras=("front",), seed=40, workers=0)
    recorded = json.loads((made / "meta" / "recording.json").read_text())
    assert recorded["sources"] == [{"task": t.name, "seed": 40 + n} for n in range(3) for t in LAMPS]
    assert recorded["task"] == [task.instruction for task in LAMPS]
    dataset = data.open_dataset(made)
    actions, said = dataset.column("action"), dataset.column("task_index")
    assert list(dataset.tasks.values()) == [task.instruction for task in LAMPS]
    for episode in range(6):
        task, rows = LAMPS[episode % 2], slice(dataset.episode_from[episode], dataset.episode_to[episode])
        alone = sim.demonstrate(task, episode // 2, cameras=["front"], seed=40, noise=0.25, noisy_share=1.0)
        assert actions[rows].tolist() == alone.columns["action"][:, 0].tolist()
        assert said[rows].tolist() == [episode % 2] * 2
    assert jobs.record("lamps", out=made, episodes=3, cameras=("front",), seed=40) == made, "complete, so left alone"


def test_depth_is_recorded_beside_colour_and_never_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sim.SUITES, "lamps", (deep := replace(LAMPS[0], depth=True),))
    asked, depth = ("front=16x24", "front_depth=16x24"), f"{FRONT}_depth"
    dataset = data.open_dataset(
        jobs.record("lamps", out=tmp_path / "set", episodes=1, noise=0, cameras=asked, workers=0)
    )
    found, told = (
        dataset.video(depth).frames(dataset.rows),
        sim.demonstrate(deep, 0, seed=0, cameras=asked, noise=0, noisy_share=1),
    )
    assert np.abs(found / 1000 - told.columns[depth]).max() < 2e-3
    assert unsaid(dataset)["cameras"] == {FRONT: (16, 24)}
    assert [film.camera for film in filmed(dataset, 0, ())] == [FRONT]
    spec = spec_of(dataset)
    policy = recipe_for("flow-policy", spec.inputs).build(spec)
    assert (set(policy.inputs), unused(dataset, policy)) == ({"observation.state", FRONT}, [depth])
    with pytest.raises(ValueError, match=f"camera: {depth}: expected .*3.*, found .*1"):
        Camera(features=(depth,)).build(spec.inputs)


def test_tasks_of_two_robots_make_no_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sim.SUITES, "lamps", (LAMPS[0], replace(LAMPS[1], fps=20)))
    with pytest.raises(sim.SimulatorError, match="one robot, found touch and mirror, whose fps differ"):
        jobs.record("lamps", out=tmp_path / "set", episodes=1, workers=0)
    assert not (tmp_path / "set").exists()


def test_a_suite_is_judged_task_by_task(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = jobs.evaluate(run, task="lamps", episodes=3, workers=0, video=1, out=tmp_path)
    policy = written["policies"]["bc"]
    assert [(e["task"], e["seed"]) for e in policy["episodes"]] == [
        (t.name, 100_000 + i) for t in LAMPS for i in range(3)
    ]
    assert {name: found["success"]["episodes"] for name, found in policy["tasks"].items()} == {"touch": 3, "mirror": 3}
    assert policy["success"]["episodes"] == 6
    assert (
        policy["facts"]["demonstrated_seeds"] is None
    )  # All begin with the same numbers: the camera tells them apart.
    assert written["unit"] == "m"
    page = (tmp_path / "report.html").read_text()
    assert page.count("<video") == 2
    assert "Touch the lamp." in page
    assert f"nextmove evaluate {run} --task lamps" in written["commands"][0]
    alone = jobs.evaluate(run, task="mirror", episodes=3, workers=0, video=0, out=tmp_path / "alone")
    rewards = [e["max_reward"] for e in alone["policies"]["bc"]["episodes"]]
    assert rewards == [e["max_reward"] for e in policy["episodes"][3:]]


@pytest.mark.usefixtures("unrendered")
def test_runs_are_compared_by_task_and_seed(run: Path, demos: Path, tmp_path: Path) -> None:
    jobs.train("bc", demos, out=tmp_path / "other", steps=3, threads=1, seed=1, recipe=SEEING, bf16="off")
    options = {"runs": (run, tmp_path / "other"), "task": "lamps", "episodes": 2, "video": 0, "workers": 0}
    written = jobs.compare(**options, batched=False, out=tmp_path / "out")
    assert written["comparisons"][0]["episodes"] == 4
    assert list(written["policies"]["bc"]["tasks"]) == ["touch", "mirror"]
    batched = jobs.compare(**options, out=tmp_path / "batched")
    for name, policy in written["policies"].items():
        assert [e["max_reward"] for e in policy["episodes"]] == pytest.approx(
            [e["max_reward"] for e in batched["policies"][name]["episodes"]], abs=1e-5
        )


@pytest.mark.usefixtures("unrendered")
def test_what_a_suite_lacks_or_cannot_do_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blind = tuple(
        replace(task, name=f"blind-{task.name}", cameras={"observation.images.top": (8, 12)}) for task in LAMPS
    )
    monkeypatch.setitem(sim.SUITES, "blind", blind)
    with pytest.raises(
        ConfigError, match=f"blind-touch: {FRONT}: expected a camera, found only .*observation.images.top"
    ):
        jobs.evaluate(run, task="blind", episodes=1, workers=0, out=tmp_path)
    single = tuple(replace(task, name=f"single-{task.name}", one_per_process=True) for task in LAMPS)
    monkeypatch.setitem(sim.SUITES, "single", single)
    with pytest.raises(ConfigError, match=r"one environment of single-touch \(lamps\).*--no-batched"):
        jobs.evaluate(run, task="single", episodes=1, batched=True, out=tmp_path)
    jobs.evaluate(run, task="single", episodes=1, workers=0, video=1, out=tmp_path)
    with pytest.raises(ConfigError, match=f"pusht: {FRONT}: expected a camera, found only observation.state"):
        jobs.evaluate(run, task="pusht", episodes=1, workers=0, out=tmp_path)


@pytest.mark.usefixtures("unrendered")
def test_a_simulator_of_another_version_is_named_wherever_it_matters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = tuple(replace(task, packages=("bulbs",), rendering={"shadows": False}) for task in LAMPS)
    monkeypatch.setitem(sim.SUITES, "lamps", drawn)
    here = {"lamps": "1.0", "bulbs": "2.0"}
    monkeypatch.setattr("nextmove.sim.versions.version", here.__getitem__)
    record = partial(jobs.record, "touch", out=tmp_path / "set", episodes=3, cameras=("front",), workers=0)
    recorded = json.loads((record() / "meta" / "recording.json").read_text())["simulator"]
    assert recorded == {"packages": here, "rendering": {"shadows": False}}
    jobs.train("bc", tmp_path / "set", out=tmp_path / "bc", steps=3, threads=1, recipe=SEEING, bf16="off")
    options = {"task": "touch", "episodes": 2, "workers": 0, "video": 0}
    written = jobs.evaluate(tmp_path / "bc", **options, out=tmp_path / "same")
    assert written["versions"]["bulbs"] == "2.0"
    assert written["policies"]["bc"]["facts"]["simulator"] == recorded
    assert "another simulator" not in written["verdict"] + capsys.readouterr().out

    here["bulbs"] = "3.0"
    monkeypatch.setitem(sim.SUITES, "lamps", tuple(replace(task, rendering={"shadows": True}) for task in drawn))
    with pytest.raises(DataError, match=r"already recorded with another simulator: .*'2.0'.*'3.0'"):
        record()
    said = "The demonstrations of bc were made by another simulator than it is judged on (bulbs 2.0, not 3.0; shadows "
    written = jobs.evaluate(tmp_path / "bc", **options, out=tmp_path / "other")
    assert said in written["verdict"]
    assert f"CAUTION: {said}off, not on)" in capsys.readouterr().out


@pytest.mark.usefixtures("unrendered")
def test_the_task_is_by_default_the_one_of_the_demonstrations(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = jobs.record("lamps", out=tmp_path / "set", episodes=2, cameras=("front",), workers=0)
    jobs.train("bc", made, out=tmp_path / "bc", steps=1, threads=1, recipe=SEEING, bf16="off")
    options = {"episodes": 1, "workers": 0, "video": 0}
    written = jobs.evaluate(tmp_path / "bc", **options)
    assert list(written["policies"]["bc"]["tasks"]) == [task.name for task in LAMPS]
    assert "task: lamps, as of the demonstrations; --task judges on another" in capsys.readouterr().out
    one = jobs.evaluate(tmp_path / "bc", **options, task="touch", out=tmp_path / "one")
    assert len(one["policies"]["bc"]["episodes"]) == 1
    assert one["policies"]["bc"]["facts"]["demonstrated_with"]["tasks"] == ["mirror", "touch"]
    assert taught_in(run) == "pusht", "demonstrations without a recording do not say"
    with pytest.raises(ConfigError, match="expected demonstrations of one task or suite, found aloha/insertion, touch"):
        demonstrated_in([{"tasks": ["touch"]}, None, {"tasks": ["aloha/insertion"]}])
    with pytest.raises(sim.SimulatorError, match="found ''"):
        jobs.evaluate(run, task="", episodes=1, workers=0, out=tmp_path / "none")


@pytest.mark.parametrize(
    ("tasks", "suite"),
    [
        (["touch"], "touch"),
        (["touch", "mirror"], "lamps"),
        (["touch", "pusht"], None),
        (["metaworld/reach"], "metaworld/reach"),
        (["metaworld/reach", "metaworld/push"], "metaworld/mt10"),
        ([], None),
    ],
)
def test_tasks_are_known_by_their_smallest_suite(tasks: list[str], suite: str | None) -> None:
    assert suite_of(tasks) == suite


@pytest.mark.usefixtures("unrendered")
def test_lines_that_another_simulator_judged_are_named_in_a_comparison(
    run: Path, demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = {"lamps": "1.0"}
    monkeypatch.setattr("nextmove.sim.versions.version", here.__getitem__)
    entry = judge(partial(jobs.load_policy, run), name="bc", simulator="lamps", seeds=range(9, 11), workers=0)
    here["lamps"] = "1.1"
    said = "bc was judged by another simulator than the one installed (lamps 1.0, not 1.1)"
    assert said in report([entry], tmp_path, simulator="lamps", title="", commands=[])["verdict"]
    assert simulators_caution([replace(entry, facts={})], "lamps") == "", "of older versions, which did not say"


def test_a_recording_that_did_not_say_its_simulator_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nextmove.sim.versions.version", {"lamps": "1.0"}.__getitem__)
    made = jobs.record("touch", out=tmp_path / "set", episodes=2, workers=0)
    path = made / "meta" / "recording.json"
    content = json.loads(path.read_text())
    assert content.pop("simulator") == {"packages": {"lamps": "1.0"}}
    path.write_text(json.dumps(content))
    assert jobs.record("touch", out=tmp_path / "set", episodes=2, workers=0) == made
