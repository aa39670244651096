"""Environments and actors small enough to reason about; at module level, since workers import them by name."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch

from nextmove.contracts import Chunk, normal

FPS = 10.0


class Point:
    """A point that moves a third of the way to each target; success is to be near the origin."""

    fps = FPS
    max_steps = 25

    def __init__(self, raise_on: int = -1, die_on: int = -1, stage_fright: float = 0.0) -> None:
        self.raise_on, self.die_on, self.stage_fright = raise_on, die_on, stage_fright
        self.x = np.zeros(2)

    def reset(self, *, seed):
        self.seed = seed
        self.x[:] = np.random.default_rng(seed).uniform(-1, 1, 2)
        return self.observe(), {}

    def observe(self):
        # The very buffer, as many simulators do: whoever keeps an observation has to copy it.
        return {"observation.state": self.x}

    def step(self, action):
        if self.seed == self.raise_on:
            raise RuntimeError("the gripper fell off")
        if self.seed == self.die_on:
            os._exit(7)
        self.x += (np.asarray(action) - self.x) / 3 + self.stage_fright
        distance = float(np.abs(self.x).max())
        return self.observe(), 1 - distance, distance < 0.05, False, {"is_success": distance < 0.05}

    def close(self):
        self.x = None

    def render(self):
        frame = np.full((48, 64, 3), 255, np.uint8)
        row, column = (int(np.clip(24 + 20 * v, 0, n - 4)) for v, n in zip(self.x, (48, 64), strict=True))
        frame[row : row + 4, column : column + 4] = 0
        return frame


class Restless(Point):
    """The same, but a replay never earns what the run earned."""

    count = 0

    def step(self, action):
        type(self).count += 1
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward + type(self).count, terminated, truncated, info


@dataclass
class Drawn:
    """Plans around the origin with noise: elementwise, so that batches round as single rows do."""

    noise: float = 0.3
    n_obs_steps: int = 2
    n_action_steps: int = 4
    horizon: int = 6
    fps: float = FPS

    def act(self, obs, *, rng, known=None):
        state = obs["observation.state"]
        assert state.shape[1] == self.n_obs_steps
        draw = normal((len(state), self.horizon, 2), rng)
        return Chunk(0.1 * state[:, -1:] + self.noise * draw, 1 / self.fps)


class Network(Drawn):
    """Plans with matrix products, whose rounding depends on threads and batch."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = torch.randn(4, 256, generator=generator)
        self.second = torch.randn(256, 12, generator=generator) / 256

    def act(self, obs, *, rng, known=None):
        chunk = super().act(obs, rng=rng)
        hidden = torch.tanh(obs["observation.state"].flatten(1) @ self.first)
        return Chunk(chunk.actions + 0.1 * (hidden @ self.second).view(-1, 6, 2), chunk.dt)


class Diverged(Drawn):
    """Plans nan."""

    def act(self, obs, *, rng, known=None):
        return Chunk(torch.full((len(obs["observation.state"]), 6, 2), float("nan")), 0.1)


class OncePerStep:
    """A controller of another kind: asks for a plan at every step."""

    def __init__(self, actor) -> None:
        self.actor = actor

    def reset(self, rng):
        self.rng = rng

    def step(self, observation):
        history = torch.from_numpy(observation["observation.state"].astype(np.float32))[None, None].repeat(1, 2, 1)
        return self.actor.act({"observation.state": history}, rng=self.rng).actions[0, 0].numpy()


def no_such_robot():
    raise FileNotFoundError("no such robot")
