"""Recording keeps what is finished, whatever happens, and its result depends on nothing but the episodes."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from nextmove import data
from nextmove.data import draft as draft_module
from nextmove.data.draft import Draft, difference
from nextmove.data.encode import VideoCodec
from nextmove.data.errors import DataError
from nextmove.data.record import Numbers, RecordingError, describe, record
from nextmove.data.writer import DatasetWriter
from nextmove.host.signals import StoppedError, heard

FEATURES = {
    "observation.state": {"dtype": "float32", "shape": [2], "names": ["x", "y"]},
    "action": {"dtype": "float32", "shape": [2], "names": ["x", "y"]},
    "next.done": {"dtype": "bool", "shape": [1], "names": None},
}


@dataclass(frozen=True)
class Episode:
    columns: dict
    success: bool = True


@dataclass(frozen=True)
class Toy:
    """Episode k has k + 2 rows; `once` is what happens the first time episode 3 is played."""

    scratch: str
    failing: tuple[int, ...] = ()
    once: str = ""

    def __call__(self, number: int) -> Episode:
        with (Path(self.scratch) / "played").open("a") as log:
            log.write(f"{number}\n")
        mark = Path(self.scratch) / "happened"
        if number == 3 and self.once and not mark.exists():
            mark.touch()
            time.sleep(0.2)
            if self.once == "raise":
                raise ValueError("the gripper fell off")
            if self.once.startswith("SIG"):  # to the whole group, as a terminal or `timeout` does
                os.kill(os.getpid(), signal.Signals[self.once])
                os.kill(os.getppid(), signal.Signals[self.once])
            else:
                os.kill(os.getpid() if self.once == "die" else os.getppid(), signal.SIGKILL)
            time.sleep(0.2)
        draws = np.random.default_rng(number).normal(size=(2, number + 2, 2)).astype(np.float32)
        done = np.arange(number + 2) == number + 1
        columns = {"observation.state": draws[0], "action": draws[1], "next.done": done}
        return Episode(columns, number not in self.failing)

    def played(self) -> list[int]:
        return [int(line) for line in (Path(self.scratch) / "played").read_text().split()]


@pytest.fixture
def toy(tmp_path):
    return partial(Toy, str(tmp_path))


@pytest.fixture
def go(tmp_path):
    return partial(record, tmp_path / "set", features=FEATURES, fps=10, task="toy", robot_type="none", workers=0)


def staged(folder: Path) -> Draft:
    return Draft(folder / "set.recording", {}, 10, VideoCodec())


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_data_set_holds_the_episodes_in_order(go, toy):
    root = go(episode=toy(failing=(1,)), episodes=4)
    dataset = data.open_dataset(root)
    expected = [toy()(number).columns for number in (0, 2, 3, 4)]
    assert dataset.num_episodes == 4
    assert dataset.fps == 10
    for name in FEATURES:
        assert np.array_equal(dataset.column(name), np.concatenate([columns[name] for columns in expected]))
    assert dataset.episode_to.tolist() == np.cumsum([len(columns["action"]) for columns in expected]).tolist()
    assert json.loads((root / "meta" / "recording.json").read_text())["failed"] == [1]
    assert {path.name for path in root.parent.iterdir()} == {"set", "played"}, "nothing is left lying about"


def test_the_same_bytes_for_any_number_of_workers(tmp_path, toy):
    play = toy(failing=(0, 5))
    one, two = (
        record(tmp_path / f"with{n}", features=FEATURES, fps=10, episode=play, episodes=9, workers=n) for n in (0, 2)
    )
    assert contents(one) == contents(two)
    assert sorted(play.played()) == sorted(2 * list(range(11)))


@dataclass(frozen=True)
class Filmed:
    """Episode k has k + 2 grey frames."""

    def __call__(self, number: int) -> Episode:
        grey = np.arange(number + 2, dtype=np.uint8)[:, None, None, None] * 9 + 40 * number
        return Episode({"observation.images.top": np.broadcast_to(grey, (number + 2, 32, 48, 3)).astype(np.uint8)})


def test_cameras_are_the_same_bytes_for_any_number_of_workers(tmp_path):
    camera = {"observation.images.top": {"dtype": "video", "shape": [32, 48, 3]}}
    roots = [
        record(tmp_path / f"with{n}", features=camera, fps=10, episode=Filmed(), episodes=4, workers=n) for n in (0, 2)
    ]
    assert contents(roots[0]) == contents(roots[1])
    frames = data.open_dataset(roots[0]).video("observation.images.top").frames(np.arange(14))
    expected = np.concatenate([Filmed()(number).columns["observation.images.top"] for number in range(4)])
    assert np.abs(frames.astype(float) - expected).max() < 6


def test_a_recording_goes_on_after_kill_9(tmp_path, go, toy):
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent)]}\n"
        "from test_record import FEATURES, Toy, record\n"
        "if __name__ == '__main__':\n"
        f"    record({str(tmp_path / 'set')!r}, features=FEATURES, fps=10, task='toy', robot_type='none', workers=1,\n"
        f"           episode=Toy({str(tmp_path)!r}, once='kill'), episodes=6)\n"
    )
    script = tmp_path / "killed.py"
    script.write_text(code)
    killed = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    play = toy(once="kill")
    assert play.played() == [0, 1, 2, 3], "the worker finishes its episode and ends, nobody being left"
    assert not (tmp_path / "set").exists()
    root = go(episode=play, episodes=6)
    assert play.played() == [0, 1, 2, 3, 4, 5]
    assert data.open_dataset(root).num_episodes == 6


@pytest.mark.parametrize(("what", "message"), [("die", "exit code -9"), ("raise", "the gripper fell off")])
def test_a_lost_episode_is_named_and_the_others_kept(tmp_path, go, toy, what, message):
    play = toy(once=what)
    with pytest.raises(RecordingError, match="episode 3") as problem:
        go(episode=play, episodes=6, workers=1)
    assert message in str(problem.value)
    assert set(staged(tmp_path).done()) == {0, 1, 2}
    go(episode=play, episodes=6)
    assert play.played() == [0, 1, 2, 3, 3, 4, 5]


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_stopped_recording_finishes_the_episode_under_way(tmp_path, go, toy, name, status):
    play = toy(once=name)
    message = r"set: stopped; 4 finished episodes are kept in .*set\.recording"
    with pytest.raises(StoppedError, match=message) as stop, heard():
        go(episode=play, episodes=6, workers=1)
    assert stop.value.status == status
    assert set(staged(tmp_path).done()) == {0, 1, 2, 3}
    go(episode=play, episodes=6)
    assert play.played() == [0, 1, 2, 3, 4, 5]


def test_a_full_disk_loses_nothing(tmp_path, go, toy, monkeypatch):
    write, left = draft_module._write_table, 3

    def full(path, table):
        nonlocal left
        left -= 1
        if left < 0:
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, table)

    play = toy()
    monkeypatch.setattr(draft_module, "_write_table", full)
    with pytest.raises(RecordingError, match=r"episode 3: .*No space left on device: .*episode-000003"):
        go(episode=play, episodes=6)
    monkeypatch.undo()
    names = {path.name for path in (tmp_path / "set.recording").iterdir()}
    assert names == {"settings.json", *(f"episode-{n:06d}" for n in range(3))}
    go(episode=play, episodes=6)
    assert play.played() == [0, 1, 2, 3, 3, 4, 5]


def test_a_full_disk_while_writing_the_data_set_loses_nothing(tmp_path, go, toy, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    play = toy()
    monkeypatch.setattr(DatasetWriter, "finalize", full)
    with pytest.raises(RecordingError, match=r"No space left.*kept"):
        go(episode=play, episodes=3)
    monkeypatch.undo()
    assert {path.name for path in tmp_path.iterdir()} == {"set.recording", "played"}
    go(episode=play, episodes=3)
    assert play.played() == [0, 1, 2]


def test_a_finished_recording_is_not_made_again(go, toy):
    play = toy()
    root = go(episode=play, episodes=2)
    before = contents(root)
    assert go(episode=play, episodes=2) == root
    assert play.played() == [0, 1]
    assert contents(root) == before
    with pytest.raises(DataError, match="episodes: 2, now 5"):
        go(episode=play, episodes=5)
    with pytest.raises(DataError, match="another episode"):
        go(episode=toy(failing=(7,)), episodes=2)


def test_other_peoples_folders_are_left_alone(tmp_path, go, toy):
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="does not exist yet"):
        go(episode=toy(), episodes=2)
    (tmp_path / "set").rmdir()
    staged(tmp_path).open({"episode": "another"})
    with pytest.raises(DataError, match=r"set.recording: begun with another episode: 'another', now"):
        go(episode=toy(), episodes=2)


def test_of_calls_that_differ_the_difference_is_shown():
    def call(*keywords):
        return {"episode": f"sim.demonstrate('pusht', {', '.join(keywords)})"}

    plain = call("cameras={}", "noise=5.0", "seed=0")
    assert difference(plain, call("cameras={}", "noise=2.0", "seed=0")) == "episode: noise=5.0, now noise=2.0"
    filmed = call("cameras={'image': (96, 96)}", "noise=5.0", "seed=3")
    assert difference(plain, filmed) == "episode: cameras={}, seed=0, now cameras={'image': (96, 96)}, seed=3"
    assert difference(plain, plain) == ""
    task = {"episode": "sim.demonstrate('aloha/insertion', cameras={}, noise=0.02, seed=0)"}
    assert difference(plain, task) == "episode: 'pusht', noise=5.0, now 'aloha/insertion', noise=0.02"
    other = {"episode": "sim.other()"}
    assert difference(plain, other) == f"episode: {plain['episode']!r}, now 'sim.other()'"


def test_an_expert_that_always_fails_is_stopped(go, toy):
    with pytest.raises(RecordingError, match="11 of 13 episodes failed"):
        go(episode=toy(failing=tuple(range(100))), episodes=2)


def test_wrong_columns_are_named_at_the_first_episode(go, toy):
    play = toy()
    with pytest.raises(RecordingError, match=r"expected the columns \['action', 'next.done', 'next.reward'"):
        go(episode=play, episodes=2, features={**FEATURES, "next.reward": FEATURES["next.done"]})
    assert play.played() == [0]
    with pytest.raises(ValueError, match="episodes, workers"):
        go(episode=play, episodes=0)


@pytest.mark.parametrize("file", ["data.parquet", "episode.json"])
def test_a_damaged_file_is_named(tmp_path, go, toy, monkeypatch, file):
    monkeypatch.setattr(DatasetWriter, "finalize", interrupted)
    with pytest.raises(StoppedError):
        go(episode=toy(), episodes=3)
    monkeypatch.undo()
    (tmp_path / "set.recording" / "episode-000001" / file).write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match=rf"episode-000001/{file}: not "):
        go(episode=toy(), episodes=3)
    assert {path.name for path in tmp_path.iterdir()} == {"set.recording", "played"}


def test_what_another_version_began_is_refused(tmp_path, go, toy):
    (tmp_path / "set.recording").mkdir()
    (tmp_path / "set.recording" / "recording.json").write_text("{}")
    with pytest.raises(DataError, match=r"set.recording: expected settings.json, found recording.json .*delete"):
        go(episode=toy(), episodes=2)
    assert not (tmp_path / "played").exists()


def test_features_that_cannot_be_stored_are_refused_before_anything_is_played(tmp_path, go, toy):
    with pytest.raises(DataError, match="'a/b' is not allowed"):
        go(episode=toy(), episodes=2, features={**FEATURES, "a/b": FEATURES["action"]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(20))
def test_numbers_are_the_shortest_run_with_enough_successes(seed):
    rng = np.random.default_rng(seed)
    good = rng.random(200) < 0.7
    wanted = int(rng.integers(1, 40))
    known = {int(n): bool(good[n]) for n in rng.choice(80, 15, replace=False)}  # from an interrupted run
    numbers, flying, taken = Numbers(known, wanted), [], []
    while True:
        while len(flying) < 3 and (number := numbers.next_task()) is not None:
            flying.append(number)
            taken.append(number)
        if not flying:
            break
        number = flying.pop(int(rng.integers(len(flying))))  # in any order
        numbers.finish(number, bool(good[number]))
    assert numbers.succeeded() == np.flatnonzero(good)[:wanted].tolist()
    assert numbers.end == numbers.succeeded()[-1] + 1
    assert not set(taken) & set(known)
    assert len(taken) == len(set(taken))


def test_descriptions_are_the_same_in_every_process():
    assert describe(partial(toy_function, "a", b=2)) == f"{__name__}.toy_function('a', b=2)"
    assert describe(Toy("x")) == "Toy(scratch='x', failing=(), once='')"


def toy_function(name: str, number: int, b: int) -> None:
    """Something to describe."""


def test_quiet_where_stderr_is_no_terminal(go, toy, capfd):
    go(episode=toy(), episodes=2)
    assert capfd.readouterr() == ("", "")
