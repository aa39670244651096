"""A scripted expert for PushT: plans one straight push at a time by simulating all of them.

From the present pose of the T it tries the pusher at every place of the outline and in five directions, each push
simulated in a copy of the world (`_pushes`), and takes the one whose best prefix brings the T's corners nearest to
where they belong, a little dearer the longer it takes. The pusher walks around the T (`_tee.Ways`), pushes, and plans
again. Greedy, no learning, no search over sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nextmove.sim._pushes import Ints, Pushes, contacts, fan
from nextmove.sim._tee import RADIUS, SIZE, Floats, Ways, pose_cost, to_world
from nextmove.sim.base import Cameras, Episode, Info, Size, Task
from nextmove.sim.demonstration import check, noisy, play
from nextmove.sim.environment import Environment
from nextmove.sim.kept import kept_open
from nextmove.sim.pusht import PushT
from nextmove.sim.tasks import PUSHT

_APPROACH = RADIUS + 7.0
"""Distance from the outline at which a push begins."""
_TIME_WEIGHT = 0.1
"""Pixels of mean corner distance that one control step is worth."""
_FAR = 30.0
"""Mean corner distance beyond which the multimodal expert leaves its choice to chance."""
_TRAVEL, _PUSH, _GENTLE = 18.0, 9.0, 4.0
"""Pixels a control step: walking, pushing, pushes of at most 12 px."""


@dataclass(frozen=True)
class Plan:
    """A push: the way (N, 2) to where it begins and the point (2,) at which it ends, in the world."""

    way: Floats
    end: Floats
    length: float


class Planner:
    """Chooses pushes. Its answers depend on the calls before (the last bits of the physics), so use one an episode."""

    def __init__(self) -> None:
        points, normals, edges = contacts()
        inward = fan(normals)
        each = inward.shape[1]
        self._directions = inward.reshape(-1, 2)
        self._points = points.repeat(each, 0)
        self._normals = normals.repeat(each, 0)
        self._edges = edges.repeat(each)
        self._pushes = Pushes(len(self._points))

    def plan(self, agent: Floats, pose: Floats, *, margin: float = 0.0, rng: np.random.Generator) -> Plan | None:
        """The best push for the pusher at `agent` (2,) and the T at `pose` (3,), None if none improves the pose.

        With `margin` > 0 and the T still far from its goal `rng` draws among the edges of the T whose best push is
        within `margin` px of the best of all.
        """
        cost = float(pose_cost(pose))
        stride, length, patience = (2.0, 110.0, 4) if cost > 12 else (1.0, 24.0, 6) if cost > 5 else (0.4, 24.0, 6)
        starts = to_world(self._points + self._normals * _APPROACH, pose)
        reachable = ((starts >= 4) & (starts <= SIZE - 4)).all(1)
        starts = starts[reachable]
        turn = np.array([0.0, 0.0, pose[2]])
        directions = to_world(self._directions[reachable], turn)
        contact = to_world((self._points + self._normals * (RADIUS + 0.2))[reachable], pose)
        best, moved = self._pushes.run(pose, contact, directions, stride=stride, length=length, patience=patience)
        ways = Ways(pose, agent)
        near = min(1.0, max(cost, 1e-3) / 15)
        score = best + _TIME_WEIGHT * near * (ways.lengths(starts) / _TRAVEL + moved / _PUSH + 3)
        score[moved == 0] = np.inf
        chosen = int(score.argmin())
        if not np.isfinite(score[chosen]):
            return None
        if margin > 0 and cost > _FAR:
            chosen = self._draw(score, self._edges[reachable], float(score[chosen]) + margin, rng)
        return Plan(ways.way(chosen), contact[chosen] + directions[chosen] * moved[chosen], float(moved[chosen]))

    def _draw(self, score: Floats, edges: Ints, limit: float, rng: np.random.Generator) -> int:
        """One of the edges whose best push scores `limit` or less, by chance; that push."""
        sides = [np.flatnonzero(edges == edge) for edge in np.unique(edges)]
        champions = np.array([side[score[side].argmin()] for side in sides])
        return int(rng.choice(champions[score[champions] <= limit]))


def _resample(way: Floats, stride: float) -> Floats:
    """Points every `stride` px along the way (N, 2), without its start, with its end."""
    steps = np.linalg.norm(np.diff(way, axis=0), axis=1)
    along = np.concatenate([[0.0], steps.cumsum()])
    at = np.append(np.arange(stride, along[-1], stride), along[-1])
    return np.stack([np.interp(at, along, way[:, i]) for i in range(2)], 1)


def _targets(plan: Plan) -> Floats:
    """The actions (N, 2) that carry out a plan."""
    walk, begin = _resample(plan.way, _TRAVEL), plan.way[-1]
    push = _resample(np.stack([begin, plan.end]), _GENTLE if plan.length <= 12 else _PUSH)
    targets = np.concatenate([walk, [begin] * 2, push, [plan.end] * 2])
    return targets.clip(0, SIZE)


class Expert:
    """The expert at work on one episode: `expert(info)` is its next action (2,) in px, given the environment's info.

    `margin` px > 0 makes it choose at random among good pushes (see `Planner.plan`). `rng` also draws where the pusher
    goes when no push helps.
    """

    def __init__(self, *, margin: float = 0.0, rng: np.random.Generator) -> None:
        self._planner, self._margin, self._rng = Planner(), margin, rng
        self._queue: list[Floats] = []
        self.plans = 0

    def __call__(self, info: Info) -> Floats:
        """The next action of the present plan; plans anew where that has ended."""
        if not self._queue:
            plan = self._planner.plan(info["agent"], info["block_pose"], margin=self._margin, rng=self._rng)
            self._queue = list(_targets(plan) if plan else self._elsewhere(info["agent"]))
            self.plans += 1
        return self._queue.pop(0)

    def _elsewhere(self, agent: Floats) -> Floats:
        """Three steps to a random place nearby, for when no push helps from here."""
        return np.tile((agent + self._rng.uniform(-60, 60, 2)).clip(0, SIZE), (3, 1))


def rollout(
    env: Environment,
    seed: int,
    *,
    noise: float = 0.0,
    multimodal: bool = False,
    margin: float = 20.0,
    rng: np.random.Generator,
) -> Episode:
    """Episode `seed` of `env` solved by the expert, ending with the step that succeeds (or the last that is allowed).

    noise: standard deviation in px of what is added to the executed actions; the columns hold the action that the
    expert meant, so that noisy episodes show how to recover. multimodal: while far from the goal, choose at random
    among the edges of the T whose best push is within `margin` px (mean corner distance) of the best of all. The last
    row holds the action that succeeded; none follow it, because the environment ends there.
    """
    expert = Expert(margin=margin if multimodal else 0.0, rng=rng)

    def disturb(meant: Floats) -> Floats:
        return (meant + rng.normal(0.0, noise, 2)).clip(0, SIZE)

    episode = play(env, seed, expert, disturb=disturb if noise else None)
    return replace(episode, info={**episode.info, "plans": expert.plans})


@kept_open
def _environment(cameras: tuple[tuple[str, Size], ...]) -> Environment:
    return Environment(PUSHT, PushT(PUSHT, dict(cameras)), dict(cameras))


def demonstrate(
    task: Task,
    number: int,
    *,
    seed: int = 0,
    noise: float = 0.0,
    noisy_share: float = 1.0,
    multimodal: bool = False,
    margin: float = 20.0,
    cameras: Cameras | None = None,
) -> Episode:
    """Demonstration `number`: the environment's episode `seed` + `number`, the same in every process.

    A share `noisy_share` in [0, 1] of them, spread evenly over the numbers, has `noise` px on the executed actions; the
    other settings are those of `rollout`. The episode may have failed. Errors: ValueError naming the setting.
    """
    del task  # there is one
    check(noisy_share=noisy_share, number=number, seed=seed, noise=noise, margin=margin)
    return rollout(
        _environment(tuple((cameras or {}).items())),
        seed + number,
        noise=noise if noisy(number, noisy_share) else 0.0,
        multimodal=multimodal,
        margin=margin,
        rng=np.random.default_rng((seed + number, 1)),
    )
