"""What was played before an evaluation was stopped is not played again, and changes nothing."""

from __future__ import annotations

import errno
import os
import signal
from functools import partial

import numpy as np
import pytest
from tests.evaluation.toys import Drawn, Network, Point

from nextmove.evaluation import rollout
from nextmove.evaluation.kept import Kept, keeping
from nextmove.host.signals import StoppedError, heard

SEEDS = list(range(6))
KEYS = [("", seed) for seed in SEEDS]


class Watched(Point):
    """The same, noting in a file which seeds are played, and what happens at seed 3."""

    def __init__(self, log, happens=None):
        super().__init__()
        self.log, self.happens = log, happens

    def reset(self, *, seed):
        with self.log.open("a") as file:
            file.write(f"{seed}\n")
        if seed == 3 and self.happens is not None:
            self.happens()
        return super().reset(seed=seed)


def played(log):
    found = sorted(int(line) for line in log.read_text().split()) if log.exists() else []
    log.unlink(missing_ok=True)
    return found


def same(one, other):
    assert [r.seed for r in one] == [r.seed for r in other]
    for a, b in zip(one, other, strict=True):
        assert (a.success, a.steps, a.mode) == (b.success, b.steps, b.mode)
        assert np.array_equal(a.actions, b.actions)
        assert np.array_equal(a.rewards, b.rewards)


def press():
    signal.raise_signal(signal.SIGTERM)


def press_parent():
    os.kill(os.getppid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("options", "happens", "left"),
    [
        ({"workers": 0}, press, {3, 4, 5}),
        ({"workers": 1}, press_parent, {3, 4, 5}),
        ({"batched": True, "envs": 2}, press, set(SEEDS)),
    ],
    ids=["here", "worker", "batched"],
)
def test_a_stopped_evaluation_plays_what_is_left(tmp_path, options, happens, left):
    log, folder = tmp_path / "log", tmp_path / "rollouts"

    def stopped():
        with heard(), keeping(folder, {"a": (1,)}) as kept:
            rollout(partial(Watched, log, happens), Network, SEEDS, kept=kept, **options)

    with pytest.raises(StoppedError, match=r"stopped; \d finished rollouts are kept in .*rollouts") as stop:
        stopped()
    assert stop.value.status == 143
    played(log)
    options = {**options, "workers": 0}  # which change nothing, and take time to begin
    through = rollout(partial(Watched, log), Network, SEEDS, **options)
    assert played(log) == SEEDS
    with keeping(folder, {"a": (1,)}) as kept:
        same(rollout(partial(Watched, log), Network, SEEDS, kept=kept, **options), through)
        assert set(played(log)) == left
        # All there: nothing is played, in batched mode either.
        same(rollout(partial(Watched, log), Network, SEEDS, kept=kept, **options), through)
        assert played(log) == []
    assert not folder.exists()


def test_episodes_of_other_weights_or_settings_are_played_anew(tmp_path):
    log, folder = tmp_path / "log", tmp_path / "rollouts"
    rollout(partial(Watched, log), Drawn, SEEDS, workers=0, kept=Kept(folder, {"weights": "one"}))
    (folder / "4.json").write_text("{")
    assert set(Kept(folder, {"weights": "one"}).known(KEYS)) == {("", seed) for seed in (0, 1, 2, 3, 5)}
    assert Kept(folder, {"weights": "other"}).known(KEYS) == {}


def test_a_full_disk_costs_no_finished_rollout(tmp_path):
    def full():
        with keeping(tmp_path / "rollouts", {}) as kept:
            rollout(partial(Watched, tmp_path / "log"), Drawn, [0, 1], workers=0, kept=kept)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "report.json"))

    with pytest.raises(OSError, match="No space left") as problem:
        full()
    assert problem.value.__notes__ == [f"2 finished rollouts are kept in {tmp_path / 'rollouts'}."]
