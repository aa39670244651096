"""Words under the frames of a film, and how they come into an episode."""

from __future__ import annotations

import numpy as np
import torch

from nextmove.contracts import Chunk
from nextmove.evaluation import rollout
from nextmove.evaluation.captions import captioned, lines_at, with_lines
from nextmove.evaluation.episode import episode_json, read_episode

BLACK = np.zeros((40, 120, 3), np.uint8)


class Told:
    """An environment that says what is to be done."""

    fps, max_steps, instruction = 10, 5, "Open the drawer."

    def reset(self, *, seed):
        return {"observation.state": np.zeros(1, np.float32)}, {}

    def step(self, action):
        return {"observation.state": np.zeros(1, np.float32)}, 0.0, False, False, {"is_success": False}

    def render(self):
        return BLACK

    def close(self):
        """Nothing is held."""


class Writer:
    """Writes the same words before two plans, then others."""

    n_obs_steps, n_action_steps, horizon = 1, 2, 2

    def __init__(self):
        self.plans = 0

    def act(self, obs, *, rng, known=None):
        self.plans += 1
        return Chunk(torch.zeros(1, 2, 1), 0.1, ("Go down." if self.plans < 3 else "Pull.",))


def test_an_episode_keeps_what_was_said_and_what_was_written():
    (played,) = rollout(Told, Writer, [3], workers=0)
    assert played.instruction == "Open the drawer."
    assert played.words == ((0, "Go down."), (4, "Pull."))
    assert lines_at(played, 3) == ["Open the drawer.", "Plan: Go down."]
    assert lines_at(played, 4) == ["Open the drawer.", "Plan: Pull."]
    record = episode_json(played)
    again = read_episode(record)
    assert (again.instruction, again.words) == (played.instruction, played.words)
    older = {name: value for name, value in record.items() if name not in ("instruction", "words")}
    assert (read_episode(older).instruction, read_episode(older).words) == ("", ())


def test_words_stand_under_the_frames():
    (played,) = rollout(Told, Writer, [3], workers=0)
    frames = with_lines([BLACK] * 6, played)
    assert len({frame.shape for frame in frames}) == 1
    assert all((frame[:40] == BLACK).all() for frame in frames)
    assert (frames[0] == frames[3]).all()
    assert (frames[3] != frames[4]).any()
    assert (frames[0][40:] < 128).any()


def test_a_long_line_is_cut_and_no_line_leaves_the_frame_as_it_is():
    assert captioned(BLACK, []) is BLACK
    long = captioned(BLACK, ["m" * 200])
    assert (long[40:, -3:] == 255).all()
    assert captioned(BLACK, ["a"], rows=3).shape[0] > captioned(BLACK, ["a"]).shape[0]
