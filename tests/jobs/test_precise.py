"""What a runtime's precision costs is measured where a policy is judged, said and kept in the report."""

import re
from pathlib import Path

import pytest

from nextmove import jobs, sim
from nextmove.jobs import precise
from nextmove.runtime import int8

SAID = re.compile(
    r"int8: over (\d+) plans actions differ from float32's by at most (\S+) \((\S+)% of their spread\), rms"
)


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize("where", ["task", "data"])
def test_the_difference_in_plans_is_said_and_kept(where, run: Path, demos: Path, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(int8, "LEAST", 1)
    asked = {"data": demos, "windows": 40} if where == "data" else {"episodes": 1, "workers": 0, "video": 0}
    report = jobs.evaluate(run, runtime="openvino", precision="int8", out=tmp_path, **asked)
    said = SAID.search(capsys.readouterr().out)
    plans, largest, share = map(float, said.groups())
    assert plans == precise.PLANS
    assert largest > 0
    assert 0 < share < 100
    (entry,) = report["policies"].values()
    assert entry["facts"]["precision"].startswith(said.group(0))
    assert "--runtime openvino --precision int8" in report["commands"][0]


def test_observations_are_those_of_several_episodes(run: Path):
    policy = jobs.load_policy(run)
    shown = precise.of_task(policy, "pusht", 7)
    steps = precise.PLANS // precise.SEEDS
    assert len(shown) == precise.PLANS
    for episode in range(precise.SEEDS):
        first, second = shown[episode * steps], shown[episode * steps + 1]
        start, _ = sim.make("pusht").reset(seed=7 + episode)
        assert first["observation.state"][0, -1].tolist() == pytest.approx(start["observation.state"].tolist())
        assert not second["observation.state"].equal(first["observation.state"])


@pytest.mark.usefixtures("short", "unrendered")
def test_float32_is_compared_with_nothing(run: Path, tmp_path, capsys):
    report = jobs.evaluate(run, runtime="openvino", episodes=1, workers=0, video=0, out=tmp_path)
    assert "differ" not in capsys.readouterr().out
    assert "precision" not in next(iter(report["policies"].values()))["facts"]
