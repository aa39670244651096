"""Many straight pushes of the T at once, in one physics space that holds a copy of the world for each.

The copies stand on a grid, too far apart to touch; their walls are shared lines. PushT zeroes the block's velocity at
every substep, so a push is quasi-static: where the T ends depends on the pusher's path, not on its speed.
Shapes: M pushes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nextmove.sim._tee import OUTLINE, RADIUS, Floats, edges, outline_distance, pose_cost, rotation

Ints = npt.NDArray[np.int64]

_SPACING = 1024.0
_SUBSTEP = 0.01


class Pushes:
    """Room for `capacity` simultaneous pushes; results depend on the calls made since it was built, in order."""

    def __init__(self, capacity: int) -> None:
        import pymunk
        from pymunk import batch

        self.capacity = capacity
        self._batch = batch
        self._space = pymunk.Space()
        self._space.damping = 0.0
        side = int(np.ceil(np.sqrt(capacity)))
        place = np.arange(capacity)
        self._origin = _SPACING * np.stack([place % side, place // side], 1).astype(np.float64)
        walls, reach = [], _SPACING * side
        for at in (_SPACING * i + edge for i in range(side) for edge in (5.0, 506.0)):
            walls.append(pymunk.Segment(self._space.static_body, (at, -_SPACING), (at, reach), 2))
            walls.append(pymunk.Segment(self._space.static_body, (-_SPACING, at), (reach, at), 2))
        self._space.add(*walls)
        tees, pushers = self._bodies(pymunk)
        self._rows(tees, pushers)

    def _bodies(self, pymunk: Any) -> tuple[list[int], list[int]]:
        """The identities of the T and the pusher of every copy."""
        bar, stem = OUTLINE[[0, 1, 2, 7]].tolist(), OUTLINE[[6, 3, 4, 5]].tolist()
        tees, pushers, everything = [], [], []
        for x, y in self._origin:
            tee = pymunk.Body(1, 3000)
            tee.center_of_gravity = (0, 45)
            pusher = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
            tee.position, pusher.position = (x + 256, y + 256), (x + 256, y - 200)
            everything += [tee, pymunk.Poly(tee, bar), pymunk.Poly(tee, stem), pusher, pymunk.Circle(pusher, RADIUS)]
            tees.append(tee.id)
            pushers.append(pusher.id)
        self._space.add(*everything)
        return tees, pushers

    def _rows(self, tees: list[int], pushers: list[int]) -> None:
        """Where the batch interface reports each body."""
        self._read = self._batch.Buffer()
        self._write = self._batch.Buffer()
        fields = self._batch.BodyFields
        self._batch.get_space_bodies(self._space, fields.BODY_ID, self._read)
        row = {body: i for i, body in enumerate(memoryview(self._read.int_buf()).cast("P"))}
        self._total = len(row)
        self._tees = np.array([row[i] for i in tees])
        self._pushers = np.array([row[i] for i in pushers])

    def _set(self, field: Any, tees: Floats, pushers: Floats) -> None:
        values = np.zeros((self._total, *tees.shape[1:]))
        values[self._tees], values[self._pushers] = tees, pushers
        self._write.set_float_buf(values)
        self._batch.set_space_bodies(self._space, field, self._write)

    def _poses(self, copies: Ints) -> Floats:
        fields = self._batch.BodyFields
        self._read.clear()
        self._batch.get_space_bodies(self._space, fields.POSITION | fields.ANGLE, self._read)
        found = np.frombuffer(self._read.float_buf()).reshape(self._total, 3)[self._tees[copies]]
        found[:, :2] -= self._origin[copies]
        return np.asarray(found)

    def _start(self, pose: Floats, starts: Floats, velocity: Floats) -> None:
        fields, m = self._batch.BodyFields, len(starts)
        still = np.zeros((self.capacity, 2))
        pushers = np.tile(np.array([256.0, -300.0]), (self.capacity, 1))
        pushers[:m] = starts
        self._set(fields.VELOCITY, still, still)
        # Setting the angle turns the T about its centre of gravity, so the position has to come second.
        self._set(fields.ANGLE, np.full(self.capacity, pose[2]), np.zeros(self.capacity))
        self._set(fields.POSITION, self._origin + pose[:2], self._origin + pushers)
        for _ in range(4):
            self._space.step(1e-9)  # long enough for the contacts of the last call to be forgotten
        moving = still.copy()
        moving[:m] = velocity
        self._set(fields.VELOCITY, still, moving)

    def run(
        self, pose: Floats, starts: Floats, directions: Floats, *, stride: float, length: float, patience: int
    ) -> tuple[Floats, Floats]:
        """Pushes the T at `pose` from `starts` (M, 2) along unit `directions` (M, 2); best cost and length, (M,) each.

        The pusher moves `stride` px a substep, `length` px at most. A push is judged by its best prefix: the least
        `pose_cost` on the way, and how far the pusher had moved; one that has not improved for `patience` substeps is
        not followed further. Pixels.
        """
        m = len(starts)
        if m > self.capacity:
            raise ValueError(f"starts: expected at most {self.capacity} pushes, found {m}")
        self._start(pose, starts, directions * (stride / _SUBSTEP))
        best = np.full(m, float(pose_cost(pose)))
        steps = np.zeros(m, dtype=np.int64)
        live = np.arange(m)
        for step in range(1, round(length / stride) + 1):
            self._space.step(_SUBSTEP)
            cost = pose_cost(self._poses(live))
            better = cost < best[live] - 1e-3
            best[live[better]], steps[live[better]] = cost[better], step
            live = live[step - steps[live] < patience]
            if not live.size:
                break
        return best, np.asarray(steps * stride)


def contacts(spacing: float = 12.0, inset: float = 5.0) -> tuple[Floats, Floats, Ints]:
    """Points (M, 2) of the outline where the pusher fits, their outward normals (M, 2) and edges (M,); body frame."""
    a, b, normals = edges()
    points, outward, sides = [], [], []
    for i, (start, end, normal) in enumerate(zip(a, b, normals, strict=True)):
        length = float(np.linalg.norm(end - start))
        count = max(round((length - 2 * inset) / spacing), 1) + 1
        share = np.linspace(inset, length - inset, count)[:, None] / length
        points.append(start + share * (end - start))
        outward.append(np.tile(normal, (count, 1)))
        sides.append(np.full(count, i))
    p, n = np.concatenate(points), np.concatenate(outward)
    fits = outline_distance(p + n * (RADIUS + 0.2)) >= RADIUS
    return p[fits], n[fits], np.concatenate(sides)[fits]


def fan(normals: Floats, degrees: tuple[float, ...] = (-30, -15, 0, 15, 30)) -> Floats:
    """Inward directions (M, len(degrees), 2) about each of the outward `normals` (M, 2)."""
    return np.stack([-normals @ rotation(np.deg2rad(d)).T for d in degrees], 1)
