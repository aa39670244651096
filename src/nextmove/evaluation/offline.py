"""Errors of predicted actions against demonstrated ones on held-out episodes, without a simulator.

Shapes: B windows, T observation steps, H horizon (of the comparison), A action width, N draws.
A low error doesn't make a policy succeed, and a good sampler of a many-moded task errs on most draws: read the best of
N beside the mean, and success rates before either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextmove.contracts import Actor, Batch, Rows, counts, seeded
from nextmove.evaluation.baselines import baselines
from nextmove.evaluation.beside import POLICY, Beside, Tally
from nextmove.evaluation.episode import Array, roughness
from nextmove.evaluation.film import Film
from nextmove.evaluation.latency import Latency, latency
from nextmove.evaluation.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Offline:
    """Errors in raw action units over all real (not padded, finite) entries."""

    windows: int
    draws: int
    mae: float
    """Mean absolute error over draws."""
    rmse: float
    mae_by_dim: Array
    """(A,)."""
    rmse_by_dim: Array
    mae_by_step: Array
    """(H,), step 0 being the action due now."""
    rmse_by_step: Array
    best_mae: float
    """Mean absolute error of the best draw of each window."""
    spread: float
    """Standard deviation over the draws of a window (mean over entries); 0 for one draw."""
    spread_by_dim: Array
    jerk: float
    """Root mean square third difference of predicted chunks / dt^3, in action units / s^3."""
    demo_jerk: float
    """The same of the demonstrated chunks."""
    roughness: float
    """Mean absolute second difference of predicted chunks, in action units / step^2."""
    demo_roughness: float
    non_finite: int
    """Predicted entries that were nan or inf; they are left out of every figure."""
    loss: dict[str, float]
    """Mean of each term of the actor's own loss, where it has one."""
    latency: Latency | None
    beside: Beside | None = None
    """Errors by episode, step and dimension, with the baselines' on the same windows."""
    trajectories: tuple[Trajectory, ...] = ()
    """Episodes to draw."""
    films: tuple[Film, ...] = ()
    """What cameras saw along them."""


class _Sums:
    """Weighted sums that become the figures."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Array]] = []
        self.jerks: list[tuple[float, float, int]] = []

    def add(self, predicted: Array, demo: Array, real: Array, dt: float) -> None:
        """predicted (N, B, H, A); demo (B, H, A); real (B, H, A) bool."""
        finite = np.isfinite(predicted)
        counts = (finite & real).astype(np.float64)
        error = np.where(counts > 0, np.nan_to_num(predicted, posinf=0, neginf=0) - np.nan_to_num(demo), 0.0)
        per_draw = counts.sum((2, 3))
        windows = np.where(per_draw > 0, np.abs(error).sum((2, 3)) / np.maximum(per_draw, 1), np.inf)
        best = windows.min(0)
        whole = finite.all(0) & real
        spread = np.where(whole, np.nan_to_num(predicted, posinf=0, neginf=0).std(0), 0.0)
        self.parts.append(
            {
                "count": counts.sum((0, 1)),
                "absolute": np.abs(error).sum((0, 1)),
                "square": (error**2).sum((0, 1)),
                "spread": spread.sum(0),
                "spread_count": whole.sum(0),
                "best": np.array([best[np.isfinite(best)].sum(), np.isfinite(best).sum()]),
                "lost": np.array((~finite & real).sum()),
            }
        )
        clean = (finite.all(0) & real).all((1, 2))
        if clean.any():
            self.jerks.append(_smoothness(predicted[:, clean], demo[clean], dt))

    def total(self, key: str) -> Array:
        return np.asarray(sum(part[key] for part in self.parts))


def _smoothness(predicted: Array, demo: Array, dt: float) -> Any:
    """Mean squared jerk and mean roughness of predictions and demonstrations, and the number of windows."""
    if demo.shape[-2] < 4:
        return (float("nan"),) * 4 + (len(demo),)
    squares = [float((np.diff(x.astype(np.float64), n=3, axis=-2) ** 2).mean()) / dt**6 for x in (predicted, demo)]
    return (*squares, roughness(predicted), roughness(demo), len(demo))


def offline(
    policy: Actor,
    batches: Iterable[Batch],
    *,
    now: int | None = None,
    draws: int = 1,
    seed: int = 0,
    latency_calls: int = 0,
    state: str | None = None,
    spread: Array | None = None,
    names: Sequence[str] = (),
) -> Offline:
    """Compares plans with what was demonstrated, and with what baselines make of the same windows.

    batches: windows, `observation.*` (B, T, D) and `action` (B, H', A) in raw units, `action_is_pad` (B, H') if any,
        `episode_index` (B,) if errors are wanted by episode.
    now: index along H' of the action that is due at the last observed step; if absent, windows and plans end together,
        as they do in windows made with the policy's own offsets. The baselines repeat the two actions before it.
    draws: plans sampled for every window, each window with its own generator, made of (seed, its `index`).
    latency_calls: plans of the first window to time alone; 0 for none.
    state: the observed feature that holds the robot where the action would put it, for the baseline that holds it.
    spread: (A,) standard deviation of the demonstrated actions, 0 where they never move; if absent, the windows' own.
    names: of the action's dimensions.
    """
    sums, tally, loss, due, windows, lat, dt = _Sums(), Tally(), _Loss(policy), [], 0, None, 0.0
    for batch in batches:
        obs = {k: v for k, v in batch.items() if k.startswith("observation.") or k == "task"}
        size = len(batch["action"])
        index = batch.get("index", torch.arange(windows, windows + size))
        generators = Rows([seeded(seed, int(i)) for i in index])
        plans = []
        for _ in range(draws):
            with torch.no_grad():
                chunk = policy.act(obs, rng=generators)
            plans.append(chunk.actions.float().cpu())
            dt = chunk.dt
        first, demo, real = _target(batch, now, plans[0].shape)
        predicted = torch.stack(plans)[:, :, : demo.shape[1]]
        others = baselines(batch, now=first, steps=demo.shape[1], state=state)
        sums.add(predicted.numpy(), demo.numpy(), real.numpy(), dt)
        tally.add(*_errors(batch, predicted, others, demo, real))
        due.append(demo[:, 0].numpy())
        loss.add(batch, seed, windows, size)
        if latency_calls and lat is None:
            lat = latency(policy, {k: v[:1] for k, v in obs.items()}, latency_calls)
        windows += size
    if not windows:
        raise ValueError("batches: expected at least one window, found none")
    spread = np.concatenate(due).std(0, dtype=np.float64) if spread is None else np.asarray(spread, np.float64)
    beside = tally.result(spread, names)
    return _figures(sums, windows, draws, loss.means(), lat, beside)


def _errors(
    batch: Batch, predicted: Tensor, others: Mapping[str, Tensor], demo: Tensor, real: Tensor
) -> tuple[Array, dict[str, Array], Array]:
    """Episodes (B,), absolute errors (B, H, A) by name, and (B, H) the steps that count: where all are numbers."""
    errors = {POLICY: (predicted - demo).abs().mean(0), **{n: (x - demo).abs() for n, x in others.items()}}
    known = torch.stack([error.isfinite() for error in errors.values()]).all(0)
    episodes = batch.get("episode_index", torch.zeros(len(demo), dtype=torch.int64))
    return episodes.numpy(), {n: x.numpy() for n, x in errors.items()}, (real & known).all(-1).numpy()


def _target(batch: Batch, now: int | None, plan: torch.Size) -> tuple[int, Tensor, Tensor]:
    """Where the plan begins, the demonstrated actions from there on (B, H, A), no longer than it, and which are real.

    Real actions (B, H, A) are those before the episode's end that are numbers.
    """
    action = batch["action"].float().cpu()
    now = action.shape[1] - plan[1] if now is None else now
    if not 0 <= now < action.shape[1]:
        raise ValueError(f"now: expected an index of the {action.shape[1]} demonstrated actions, found {now}")
    if plan[2] != action.shape[2]:
        raise ValueError(f"chunk.actions: expected width {action.shape[2]} as demonstrated, found {plan[2]}")
    demo = action[:, now : now + plan[1]]
    pad = batch.get("action_is_pad")
    valid = torch.ones(demo.shape[:2], dtype=torch.bool) if pad is None else ~pad.cpu()[:, now : now + plan[1]]
    return now, demo, valid[..., None] & demo.isfinite()


class _Loss:
    """Means of the actor's own loss terms over windows."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.device = next((p.device for p in getattr(policy, "parameters", list)()), torch.device("cpu"))
        self.sums: dict[str, float] = {}
        self.total: dict[str, float] = {}

    def add(self, batch: Batch, seed: int, first: int, size: int) -> None:
        if not hasattr(self.policy, "loss"):
            return
        own = {k: v[:, -self.policy.horizon :] if k.startswith("action") else v for k, v in batch.items()}
        own = {k: v.to(self.device) if isinstance(v, Tensor) else v for k, v in own.items()}
        with torch.no_grad():
            terms = self.policy.loss(own, rng=seeded(seed, first, 1))
        counted = counts(self.policy, own, seeded(seed, first, 1))
        for name, value in terms.items():
            count = counted.get(name, size)
            self.sums[name] = self.sums.get(name, 0.0) + float(value) * count
            self.total[name] = self.total.get(name, 0.0) + count

    def means(self) -> dict[str, float]:
        return {name: value / self.total[name] for name, value in self.sums.items()}


def _figures(
    sums: _Sums, windows: int, draws: int, loss: dict[str, float], lat: Latency | None, beside: Beside
) -> Offline:
    count, absolute, square = sums.total("count"), sums.total("absolute"), sums.total("square")

    def mean(value: Array, n: Array, axis: int | None = None) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            return value.sum(axis) / n.sum(axis)

    best = sums.total("best")
    table = np.array(sums.jerks, np.float64).reshape(-1, 5)
    weight = table[:, 4] / table[:, 4].sum() if len(table) else table[:, 4]
    squares, demo_squares, rough, demo_rough = (weight @ table[:, :4]) if len(table) else np.full(4, np.nan)
    return Offline(
        windows=windows,
        draws=draws,
        mae=float(mean(absolute, count)),
        rmse=float(np.sqrt(mean(square, count))),
        mae_by_dim=mean(absolute, count, 0),
        rmse_by_dim=np.sqrt(mean(square, count, 0)),
        mae_by_step=mean(absolute, count, 1),
        rmse_by_step=np.sqrt(mean(square, count, 1)),
        best_mae=float(best[0] / best[1]) if best[1] else float("nan"),
        spread=float(mean(sums.total("spread"), sums.total("spread_count"))),
        spread_by_dim=mean(sums.total("spread"), sums.total("spread_count"), 0),
        jerk=float(np.sqrt(squares)),
        demo_jerk=float(np.sqrt(demo_squares)),
        roughness=float(rough),
        demo_roughness=float(demo_rough),
        non_finite=int(sums.total("lost")),
        loss=loss,
        latency=lat,
        beside=beside,
    )
