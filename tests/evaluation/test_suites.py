"""Several tasks at once: episodes are told apart, kept, paired, shown in videos and reported by task and seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
from tests.sim.lamps import FRONT, LAMPS, Lamps, seen

from nextmove import sim
from nextmove.contracts import Chunk
from nextmove.evaluation import Entry, EpisodeResult, RolloutError, compare, rollout, write_report
from nextmove.evaluation.kept import Kept
from nextmove.evaluation.keys import episodes
from nextmove.evaluation.report import in_words

MAKERS = {task.name: partial(sim.make, task, {FRONT: (16, 40)}) for task in LAMPS}
SEEDS = [4, 0, 2]
KEYS = [(task.name, seed) for task in LAMPS for seed in SEEDS]


@dataclass
class Looking:
    """Goes where image and instruction say; `deaf` to the latter it touches the lamp whatever the instruction."""

    deaf: bool = False
    n_obs_steps: int = 1
    n_action_steps: int = 1
    horizon: int = 1

    def act(self, obs, *, rng, known=None):
        place = torch.from_numpy(seen(obs[FRONT][:, -1].numpy())).float()
        away = [" not" in instruction and not self.deaf for instruction in obs["task"]]
        sign = torch.tensor([-1.0 if one else 1.0 for one in away])
        return Chunk((sign * place)[:, None, None], 0.1)


def broken(task):
    raise ImportError("no lamp here")


def same(one, other):
    assert [r.key for r in one] == [r.key for r in other]
    for a, b in zip(one, other, strict=True):
        assert (a.success, a.steps) == (b.success, b.steps)
        np.testing.assert_array_equal(a.actions, b.actions)


class Leaving(Looking):
    """Touches the lamp and goes back."""

    def act(self, obs, *, rng, known=None):
        plan = super().act(obs, rng=rng)
        away = obs["observation.state"][:, -1:].abs() > 0
        return Chunk(plan.actions * ~away, 0.1)


def test_success_that_can_be_lost_again_is_reported_at_the_end_too(tmp_path):
    short = [replace(task, holds=False, max_steps=2) for task in LAMPS]
    makers = {task.name: partial(sim.make, task, {FRONT: (16, 40)}) for task in short}
    for batched in (False, True):
        staying, leaving = (rollout(makers, policy, SEEDS, workers=0, batched=batched) for policy in (Looking, Leaving))
        assert [(r.success, r.success_at_end, r.first_success, r.steps) for r in staying] == [(True, True, 1, 2)] * 6
        assert [(r.success, r.success_at_end, r.first_success, r.steps) for r in leaving] == [(True, False, 1, 2)] * 6
    mixed = [*staying[:4], *leaving[4:]]
    content = write_report([Entry("mixed", mixed)], tmp_path, title="", tasks={task.name: "" for task in short})
    found = content["policies"]["mixed"]
    assert (found["success"]["successes"], found["success_at_end"]["successes"]) == (6, 4)
    assert found["mean_steps_to_success"] == 1
    assert found["tasks"]["mirror"]["success_at_end"]["successes"] == 1
    assert "At the end of the episode 4 still do (67 %)." in content["verdict"]
    page = (tmp_path / "report.html").read_text()
    for text in ("at the end 4/6", "at the end 1<", "success, lost again", "<dt>at the end</dt>"):
        assert text in page


def test_success_that_ends_an_episode_has_no_other_score(tmp_path):
    content = write_report([Entry("one", rollout(MAKERS, Looking, SEEDS, workers=0))], tmp_path, title="")
    assert content["policies"]["one"]["success_at_end"] is None
    assert "at the end" not in (tmp_path / "report.html").read_text()


def test_one_result_for_every_task_and_seed_whatever_runs_it():
    here = rollout(MAKERS, Looking, SEEDS, workers=0)
    assert [r.key for r in here] == KEYS
    assert all(r.success for r in here)
    touched, mirrored = here[: len(SEEDS)], here[len(SEEDS) :]
    for one, other in zip(touched, mirrored, strict=True):
        np.testing.assert_array_equal(one.actions[0], -other.actions[0])
    same(here, rollout(MAKERS, Looking, SEEDS, workers=2))
    same(here, rollout(MAKERS, Looking, SEEDS, batched=True, envs=2))


def test_a_process_holds_one_environment_at_a_time():
    Lamps.alive.clear()
    Lamps.most = 0
    rollout(MAKERS, Looking, SEEDS, workers=0, video=1)
    assert Lamps.most == 1
    rollout(MAKERS, Looking, SEEDS, batched=True, envs=2)
    assert Lamps.most <= 3
    Lamps.alive.clear()


def test_the_instruction_decides():
    results = rollout(MAKERS, partial(Looking, deaf=True), range(6), workers=0)
    won = {task.name: [r.success for r in results if r.task == task.name] for task in LAMPS}
    assert all(won["touch"])
    assert not any(won["mirror"])


def test_failures_are_named_by_task_and_seed():
    makers = {"touch": MAKERS["touch"], "mirror": partial(broken, LAMPS[1])}
    with pytest.raises(RolloutError, match=r"3 of 6 episodes failed\nmirror seeds 4, 0, 2: no lamp here") as caught:
        rollout(makers, Looking, SEEDS, workers=0)
    assert [r.key for r in caught.value.results] == KEYS[:3]
    assert list(caught.value.failures) == KEYS[3:]


@pytest.mark.parametrize("batched", [False, True])
def test_kept_episodes_are_of_their_task(tmp_path, batched):
    kept = Kept(tmp_path / "kept", {})
    through = rollout(MAKERS, Looking, SEEDS, workers=0, batched=batched, kept=kept)
    assert kept.known(KEYS).keys() == set(KEYS)
    (tmp_path / "kept" / "mirror-0.json").unlink()
    again = []
    kept.add = lambda episode: again.append(episode.key)  # type: ignore[method-assign]
    same(rollout(MAKERS, Looking, SEEDS, workers=0, batched=batched, kept=kept), through)
    # In batches the rounding of an episode depends on those beside it: the task is played whole, the other is not.
    assert sorted(again) == (sorted(KEYS[3:]) if batched else [("mirror", 0)])


def test_videos_are_of_every_task():
    results = rollout(MAKERS, partial(Looking, deaf=True), SEEDS, workers=0, video=2)
    assert [sum(bool(r.video) for r in results if r.task == task.name) for task in LAMPS] == [2, 2]
    assert all(r.video_exact for r in results)


def test_pairs_are_of_one_task_and_seed():
    able, deaf = (rollout(MAKERS, partial(Looking, deaf=d), range(5), workers=0) for d in (False, True))
    found = compare(able, deaf[::-1])
    assert (found.episodes, found.both, found.only_a, found.only_b, found.neither) == (10, 5, 5, 0, 0)
    assert found.p == pytest.approx(2 / 2**5)
    with pytest.raises(ValueError, match=r"only in the first: mirror seeds 0–4; only in the second: none"):
        compare(able, deaf[:5])
    with pytest.raises(ValueError, match="every seed once of each task, found again mirror seed 4"):
        compare(able + able[-1:], deaf)


def test_a_report_counts_by_task_and_altogether(tmp_path):
    entries = [
        Entry(n, rollout(MAKERS, partial(Looking, deaf=d), range(5), workers=0)) for n, d in (("a", False), ("b", True))
    ]
    tasks = {task.name: task.instruction for task in LAMPS}
    written = write_report(entries, tmp_path, title="lamps", task="2 tasks of lamps.", tasks=tasks)
    counts = {n: {t: o["success"]["successes"] for t, o in p["tasks"].items()} for n, p in written["policies"].items()}
    assert counts == {"a": {"touch": 5, "mirror": 5}, "b": {"touch": 5, "mirror": 0}}
    assert [written["policies"][n]["success"]["successes"] for n in "ab"] == [10, 5]
    assert written["comparisons"][0]["episodes"] == 10
    assert [e["task"] for e in written["policies"]["a"]["episodes"]] == ["touch"] * 5 + ["mirror"] * 5
    assert written["verdict"].endswith("These episodes cannot tell it from b.")
    page = (tmp_path / "report.html").read_text()
    assert "Touch where the lamp is not." in page
    assert "2 tasks, each with seeds 0–4" in page
    assert "<td>mirror</td><td>4</td>" in page
    apart = write_report([entries[0], Entry("c", entries[1].results[:5])], tmp_path, title="lamps")
    assert apart["not_compared"].startswith("a and c played different tasks")


def test_episodes_in_words():
    assert episodes([("", 1), ("", 2), ("", 7)]) == "seeds 1–2, 7"
    assert episodes([("touch", 3), ("mirror", 3)]) == "touch seed 3, mirror seed 3"
    assert in_words([("touch", 3), ("touch", 4)]) == "seeds 3–4"
    assert in_words([("touch", 3), ("mirror", 3)]) == "2 tasks, each with seed 3"
    assert in_words([("touch", 3), ("mirror", 4)]) == "touch seed 3, mirror seed 4"


def test_an_episode_of_an_older_version_is_of_the_task_that_is_named(tmp_path):
    from nextmove.evaluation.episode import episode_json, read_episode

    one = EpisodeResult(3, True, 1.0, 1, 10.0, np.zeros((1, 2), np.float32), task="touch")
    assert read_episode(episode_json(one)).key == ("touch", 3)
    old = {name: value for name, value in episode_json(one).items() if name != "task"}
    assert read_episode(old, "pusht").key == ("pusht", 3)
