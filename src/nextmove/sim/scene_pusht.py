"""PushT's block in every colour at every place of its table, seen from above."""

from __future__ import annotations

from typing import Any

import numpy as np

from nextmove.sim._tee import SIZE
from nextmove.sim.base import SimulatorError
from nextmove.sim.pusht import _simulator
from nextmove.sim.scene import COLOURS, TEE, Scene, Wish, drawn_things, row_and_column

CENTRES = (110.0, 256.0, 402.0)
"""Of the places along an axis, px of the table's 512."""
JITTER = 20.0
PALE = "white"
"""The table's own colour."""


class PushTScenes:
    """Draws scenes of PushT's table."""

    def __init__(self, name: str, size: int) -> None:
        """size: height and width of the pictures; raises SimulatorError where it is not installed, or for the size."""
        if size > SIZE:
            raise SimulatorError(f"size: expected at most {SIZE:.0f}, as PushT's table is drawn, found {size}")
        self.name = name
        drawn = {"observation_height": size, "observation_width": size}
        self._env: Any = _simulator()(obs_type="environment_state_agent_pos", render_mode="rgb_array", **drawn)

    def scenes(self, wish: Wish) -> list[Scene]:
        """The one scene that is wished for; a function of the wish alone."""
        rng = wish.rng(self.name)
        self._env.reset(seed=int(rng.integers(2**31)))
        while (thing := drawn_things(rng, 1, held=wish.held, shapes=(TEE,))[0]).colour == PALE:
            pass
        row, column = row_and_column(thing.place)
        x, y = rng.uniform(-JITTER, JITTER, 2)
        block = self._env.block
        block.angle = float(rng.uniform(0, 2 * np.pi))
        middle = block.local_to_world(block.center_of_gravity) - block.position
        block.position = (CENTRES[column] + x - middle.x, CENTRES[row] + y - middle.y)
        self._env.space.reindex_shapes_for_body(block)  # what is drawn is where the shapes are
        shade = rng.uniform(0.9, 1.0)
        for shape in block.shapes:
            shape.color = type(shape.color)(*(int(255 * shade * part) for part in COLOURS[thing.colour]))
        return [Scene(np.asarray(self._env._render(), np.uint8), self.name, (thing,), held=wish.held)]

    def close(self) -> None:
        """Nothing to free; the contract asks for it."""
