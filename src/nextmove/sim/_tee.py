"""The T of PushT: its shape, its poses, and ways around it.

The body frame has its origin in the middle of the bar's outer edge; the stem points along +y (down on the screen).
A pose is (x, y, angle): world = R(angle) body + (x, y). Lengths are pixels of the 512 x 512 world, angles radians.
Shapes: M points, N corners of a way.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SIZE = 512.0
RADIUS = 15.0
"""Of the pusher."""
GOAL = (256.0, 256.0, np.pi / 4)
CORNERS: Floats = np.array(
    [[-60, 0], [60, 0], [60, 30], [-60, 30], [-15, 30], [15, 30], [15, 120], [-15, 120]], dtype=np.float64
)
"""Of the bar's and the stem's box, in the order in which the simulator reports them."""
OUTLINE: Floats = CORNERS[[0, 1, 2, 5, 6, 7, 4, 3]]
"""The same corners once around the T."""


def rotation(angle: float) -> Floats:
    """R(angle), (2, 2)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def to_world(points: Floats, pose: Floats) -> Floats:
    """Body-frame points (..., 2) in the world."""
    return np.asarray(points @ rotation(pose[2]).T + pose[:2])


def to_body(points: Floats, pose: Floats) -> Floats:
    """World points (..., 2) in the body frame."""
    return np.asarray((points - pose[:2]) @ rotation(pose[2]))


def corners(pose: Floats) -> Floats:
    """The 8 corners (8, 2) at `pose` in the simulator's order."""
    return to_world(CORNERS, pose)


def pose_cost(poses: Floats) -> Floats:
    """Mean distance in pixels of the 8 corners at poses (..., 3) to where they belong, (...)."""
    c, s = np.cos(poses[..., 2, None]), np.sin(poses[..., 2, None])
    x = c * CORNERS[:, 0] - s * CORNERS[:, 1] + poses[..., 0, None] - _GOAL_CORNERS[:, 0]
    y = s * CORNERS[:, 0] + c * CORNERS[:, 1] + poses[..., 1, None] - _GOAL_CORNERS[:, 1]
    return np.asarray(np.sqrt(x * x + y * y).mean(-1))


def edges() -> tuple[Floats, Floats, Floats]:
    """Starts, ends and outward normals of the outline's 8 edges, each (8, 2)."""
    a, b = OUTLINE, np.roll(OUTLINE, -1, 0)
    along = (b - a) / np.linalg.norm(b - a, axis=1, keepdims=True)
    return a, b, np.stack([along[:, 1], -along[:, 0]], 1)


def offset(margin: float) -> Floats:
    """The outline moved outwards by `margin`, corners mitred, (8, 2): corner i lies between edges i - 1 and i."""
    _, _, normal = edges()
    return OUTLINE + margin * (normal + np.roll(normal, 1, 0))


def point_distance(points: Floats, a: Floats, b: Floats) -> Floats:
    """Distance of points (..., 2) to segments a-b (..., 2), broadcast."""
    ab = b - a
    share = ((points - a) * ab).sum(-1) / (ab * ab).sum(-1).clip(1e-12)
    gap = points - a - share.clip(0, 1)[..., None] * ab
    return np.asarray(np.sqrt((gap * gap).sum(-1)))


def outline_distance(points: Floats) -> Floats:
    """Distance (M,) of body-frame points (M, 2) to the T's outline."""
    a, b, _ = edges()
    return np.asarray(point_distance(points[:, None], a, b).min(-1))


def clearance(starts: Floats, ends: Floats) -> Floats:
    """Distance (...) between body-frame segments (..., 2) and the outline, 0 where they cross."""
    a, b, _ = edges()
    p, q = starts[..., None, :], ends[..., None, :]
    near = np.minimum(
        np.minimum(point_distance(p, a, b), point_distance(q, a, b)),
        np.minimum(point_distance(a, p, q), point_distance(b, p, q)),
    )
    crossing = (_side(a, b, p) * _side(a, b, q) < 0) & (_side(p, q, a) * _side(p, q, b) < 0)
    return np.asarray(np.where(crossing, 0.0, near).min(-1))


def _side(a: Floats, b: Floats, p: Floats) -> Floats:
    u, v = b - a, p - a
    return np.asarray(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])


_GOAL_CORNERS = corners(np.array(GOAL))


class Ways:
    """Shortest ways for the pusher's centre around a T at `pose`, from `start` to many goals (all in the world).

    A way that begins closer than `margin` first retreats to the nearest point that far away, then runs along straight
    lines between the convex corners of the outline moved out by `margin`, no line nearer than `least` to the T and no
    corner outside the world.
    """

    margin = 21.0
    least = 20.0
    _all = offset(margin)
    _nodes = _all[[0, 1, 2, 4, 5, 7]]
    _open = clearance(_nodes[:, None], _nodes[None]) >= least - 1e-9

    def __init__(self, pose: Floats, start: Floats) -> None:
        self.pose, self.start = pose, start
        here = to_body(start, pose)
        self.out = here
        self.near = float(outline_distance(here[None])[0])
        if self.near < self.margin:
            self.out = self._retreat(here)
        self._table()

    def _retreat(self, here: Floats) -> Floats:
        a, b = self._all, np.roll(self._all, -1, 0)
        share = ((here - a) * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1)
        on = a + share.clip(0, 1)[:, None] * (b - a)
        return np.asarray(on[np.linalg.norm(on - here, axis=1).argmin()])

    def _table(self) -> None:
        """Lengths (6, 6) of the shortest ways between corners, and each way's next corner (Floyd, Warshall)."""
        world = to_world(self._nodes, self.pose)
        usable = np.asarray(((world >= 0) & (world <= SIZE)).all(1))
        ok = self._open & usable[:, None] & usable[None]
        length = np.where(ok, np.linalg.norm(self._nodes[:, None] - self._nodes[None], axis=-1), np.inf)
        np.fill_diagonal(length, np.where(usable, 0.0, np.inf))
        following = np.tile(np.arange(len(world)), (len(world), 1))
        for k in range(len(world)):
            through = length[:, k, None] + length[None, k]
            better = through < length - 1e-9
            length = np.where(better, through, length)
            following = np.where(better, following[:, k, None], following)
        self._length, self._next = length, following
        first = np.linalg.norm(self._nodes - self.out, axis=1)
        self._first = np.where(clearance(self.out[None], self._nodes) >= self.least, first, np.inf)

    def lengths(self, goals: Floats) -> Floats:
        """Length (M,) of the shortest way to each of the goals (M, 2); inf where there is none."""
        ends = to_body(goals, self.pose)
        self._goals = ends
        last = np.linalg.norm(ends[:, None] - self._nodes, axis=-1)
        last = np.where(clearance(ends[:, None], self._nodes[None]) >= self.least, last, np.inf)
        around = self._first[None, :, None] + self._length[None] + last[:, None, :]
        flat = around.reshape(len(ends), -1)
        self._best = flat.argmin(1)
        shortest = flat.min(1)
        straight = np.linalg.norm(ends - self.out, axis=1)
        self._straight = clearance(self.out[None], ends) >= self.least
        shortest = np.where(self._straight, straight, shortest)
        return np.asarray(shortest + np.linalg.norm(self.out - to_body(self.start, self.pose)))

    def way(self, index: int) -> Floats:
        """The corners (N, 2) of the way to goal `index` of the last `lengths`, from start to goal, in the world."""
        stops = [self.out]
        if not self._straight[index]:
            node, end = divmod(int(self._best[index]), len(self._nodes))
            stops.append(self._nodes[node])
            while node != end:
                node = int(self._next[node, end])
                stops.append(self._nodes[node])
        stops.append(self._goals[index])
        return np.concatenate([self.start[None], to_world(np.stack(stops), self.pose)])
