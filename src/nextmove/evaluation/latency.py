"""How long a plan takes, and how fast a robot can be driven with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from nextmove.contracts import Actor, Batch, Chunk, Feature, Known, Rng, Rows, seeded
from nextmove.control import forget


@dataclass(frozen=True)
class Latency:
    """Wall times of single plans, one after the other in one process; quote them only if nothing else ran."""

    ms: tuple[float, ...]
    first_ms: float
    """The very first call, with everything cold."""
    n_action_steps: int
    threads: int

    @property
    def p50(self) -> float:
        """Median milliseconds per plan."""
        return float(np.percentile(self.ms, 50))

    @property
    def p99(self) -> float:
        """99th percentile of the milliseconds per plan (interpolated: nearly the slowest of fifty)."""
        return float(np.percentile(self.ms, 99))

    @property
    def replan_hz(self) -> float:
        """Plans a second that hold in 99 of 100 cases: 1000 / p99."""
        return 1000.0 / self.p99

    @property
    def action_hz(self) -> float:
        """Executed actions a second if the robot waits for each plan: n_action_steps * 1000 / p99."""
        return self.n_action_steps * self.replan_hz


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Runs the block with `n` threads within operations; 0 leaves the number as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def latency(
    policy: Actor, obs: Batch, n: int = 50, threads: int = 1, warmup: int = 3, n_action_steps: int | None = None
) -> Latency:
    """Times `n` plans after `warmup` untimed ones; `obs` is a batch of one history, tensors (1, T, ...).

    An actor that keeps what it saw of pictures that do not change forgets it before each.
    """
    if n < 1 or warmup < 1:
        raise ValueError(f"n, warmup: expected at least 1, found {n} and {warmup}")
    ms = []
    with torch_threads(threads):
        for call in range(warmup + n):
            rng = Rows([seeded(0, call)])
            forget(policy)
            start = time.perf_counter()
            # Reading the numbers back makes an accelerator finish before the clock stops.
            policy.act(obs, rng=rng).actions.cpu()
            ms.append(1000 * (time.perf_counter() - start))
    return Latency(tuple(ms[warmup:]), ms[0], n_action_steps or policy.n_action_steps, threads)


class TimedActor:
    """The same actor, whose plans are timed and whose time step must be the simulator's."""

    def __init__(self, actor: Actor, fps: float) -> None:
        self.actor, self.fps = actor, fps
        self.n_obs_steps, self.n_action_steps, self.horizon = actor.n_obs_steps, actor.n_action_steps, actor.horizon
        self.ensemble: float | None = getattr(actor, "ensemble", None)
        self.inputs: Mapping[str, Feature] | None = getattr(actor, "inputs", None)
        self.plans_a_subtask: int = getattr(actor, "plans_a_subtask", 1)
        self.blind: bool = getattr(actor, "blind", False)
        """Whether it reads noise in place of what cameras show, which then need not be drawn."""
        self.ms: list[float] = []
        self.words: tuple[str, ...] = ()
        """What was written before the latest plan, a text a row."""

    def act(self, obs: Batch, *, rng: Rng, known: Known | None = None) -> Chunk:
        """The actor's plan; raises ValueError if it is meant for another rate than the simulator runs at."""
        start = time.perf_counter()
        chunk = self.actor.act(obs, rng=rng, known=known)
        chunk.actions.cpu()
        self.ms.append(1000 * (time.perf_counter() - start))
        self.words = chunk.words
        if abs(chunk.dt * self.fps - 1) > 1e-3:
            raise ValueError(f"chunk.dt: expected {1 / self.fps:g} s, as the environment runs, found {chunk.dt:g} s")
        return chunk

    def forget(self) -> None:
        """An episode is over: the actor forgets it, where it remembers anything."""
        forget(self.actor)

    def drain(self) -> Sequence[float]:
        """The times since the last drain, in milliseconds."""
        times, self.ms, self.words = self.ms, [], ()
        return times
