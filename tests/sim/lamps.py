"""A suite of two tasks whose place is seen by a camera alone and whose aim is said by the instruction alone."""

from __future__ import annotations

import numpy as np

from nextmove.sim import Episode, Task
from nextmove.sim.base import looked, vector

FRONT = "observation.images.front"


def lamp(name, instruction, sign, **more):
    return Task(
        name=name, simulator="lamps", instruction=instruction, fps=10, max_steps=3, unit="m", robot_type="pointer",
        features={"observation.state": vector(1, ["x"]), "action": vector(1, ["x"])}, cameras={FRONT: (8, 12)},
        make="tests.sim.lamps:Lamps", expert="tests.sim.lamps:demonstrate", noise=0.25, settings={"sign": sign}, **more,
    )  # fmt: skip


LAMPS = (lamp("touch", "Touch the lamp.", 1), lamp("mirror", "Touch where the lamp is not.", -1))


def seen(image):
    """Where the lamp of an image (..., height, width, 3) is, in -1 to 1."""
    column = np.asarray(image)[..., 0, :, 0].argmax(-1)
    return (2 * column + 1) / image.shape[-2] - 1


class Lamps:
    """The lamp lights a column; `observation.state` is where the pointer is."""

    alive: list[Lamps] = []  # noqa: RUF012
    most = 0

    def __init__(self, task, cameras):
        self.sign, self.cameras, self.at = task.settings["sign"], cameras, 0.0
        self.alive.append(self)
        type(self).most = max(self.most, len(self.alive))

    def reset(self, *, seed):
        rng = np.random.default_rng(seed)
        self.lamp, self.at = rng.uniform(0.2, 1) * rng.choice([-1, 1]), 0.0
        return self.observe(), {"lamp": self.lamp}

    def step(self, action):
        self.at = float(action[0])
        away = abs(self.at - self.sign * self.lamp)
        return self.observe(), 1 - away, away < 0.1, {"is_success": away < 0.1, "lamp": self.lamp}

    def observe(self):
        images = looked(self.cameras, lambda _, size: self.image(*size), lambda _, size: self.depth(*size))
        return {"observation.state": np.array([self.at], np.float32), **images}

    def depth(self, height, width):
        """A wall at 1 m, the lamp before it."""
        return np.where(self.image(height, width)[..., 0] > 0, 0.5, 1).astype(np.float32)

    def image(self, height, width):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[:, int((self.lamp + 1) / 2 * width)] = 255
        return frame

    def render(self):
        return self.image(16, 32)

    def close(self):
        self.alive.remove(self)


def demonstrate(task, number, *, seed, noise, noisy_share, cameras):
    """Walks halfway, then there; with noise on what is executed."""
    world, rng = Lamps(task, cameras), np.random.default_rng((seed, number))
    observation, info = world.reset(seed=seed + number)
    rows = []
    for share in (0.5, 1.0):
        meant = np.array([share * task.settings["sign"] * info["lamp"]], np.float32)
        following, reward, done, info = world.step(meant + noise * rng.normal() * (share < 1))
        after = {"next.reward": np.float32(reward), "next.done": done, "next.success": info["is_success"]}
        rows.append({**observation, "action": meant, **after})
        observation = following
    world.close()
    return Episode({name: np.stack([row[name] for row in rows]) for name in rows[0]}, bool(info["is_success"]))


class Cyclops(Lamps):
    """Renders at a size of its own, whatever is asked for."""

    def image(self, height, width):
        return super().image(24, 24)


class Forgetful(Lamps):
    """Leaves out its state."""

    def observe(self):
        return {name: value for name, value in super().observe().items() if name == FRONT}
