"""Policies of LeRobot (ACT, Diffusion) and FlowPolicy: plans, losses, gradients, closed loops and ensembles.

Shapes: B batch, T observation steps, H horizon, A action width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.parity.answers import Answers
from torch import Tensor

from nextmove.contracts import Batch, Chunk, Known, Rng, total
from nextmove.control import suited_rows
from nextmove.control.ensemble import TemporalEnsemble
from nextmove.folders import open_folder
from nextmove.interop import Loaded

INPUTS = {"action", "action_is_pad", "noise", "timesteps", "t", "latent_eps", "actions"}
"""Names behind a prefix that are no observations."""
IMAGES = "observation.image"
"""How names of cameras begin, whose recorded images are floating, in [0, 1], with channels first."""


class Fixed:
    """An actor that always starts from the given noise."""

    def __init__(self, loaded: Loaded, draws: Mapping[str, Tensor]) -> None:
        self.loaded, self.draws = loaded, draws
        timing = loaded.policy.timing
        self.n_obs_steps, self.n_action_steps, self.horizon = timing.n_obs_steps, timing.n_action_steps, timing.horizon
        self.ensemble = timing.ensemble

    def act(self, obs: Batch, *, rng: Rng, known: Known | None = None) -> Chunk:
        """The raw plan from now on."""
        x = self.loaded.predict(self.loaded.preprocess(obs), **self.draws)
        return Chunk(self.loaded.postprocess(x)[:, self.loaded.policy.timing.first :], 0.1)


def act(folder: Path, io: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Answers:
    """ACT, whose recorded inputs have no axis of time and whose plans begin now."""
    loaded, io = _read(folder, io, dtype)

    def seen(prefix: str) -> dict[str, Tensor]:
        return {name: value[:, None] for name, value in _behind(prefix, io).items()}

    answers, _ = _plan(loaded, io, seen("in."), executed=False)
    if "train.action" in io:
        draws = {"eps": io["train.latent_eps"]} if "train.latent_eps" in io and loaded.config.use_vae else {}
        terms = loaded.loss_at(_batch(io, seen), **draws)
        answers.found |= {"loss": total(terms), "loss.l1_loss": terms["l1"], **_gradients(loaded, total(terms), io)}
        if "kl" in terms:
            answers.found["loss.kld_loss"] = terms["kl"] / loaded.config.kl_weight
    return _in_time(loaded, io, answers)


def diffusion(folder: Path, io: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Answers:
    """Diffusion Policy, whose recorded plan is the executed part."""
    loaded, io = _read(folder, io, dtype)
    answers, whole = _plan(loaded, io, _behind("in.", io), executed=True)
    answers.found["out.normalized"] = loaded.executed(whole)
    if "train.action" in io:
        # Index i of a table of T stands at 1 - (i + 1) / T; our time runs from noise to data.
        t = 1 - (io["train.timesteps"].double() + 1) / loaded.config.num_train_timesteps
        batch = _batch(io, lambda prefix: _behind(prefix, io))
        loss = total(loaded.loss_at(batch, noise=io["train.noise"], t=t.float()))
        answers.found |= {"loss": loss, **_gradients(loaded, loss, io)}
    return _in_time(loaded, io, answers)


def flowpolicy(folder: Path, io: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Answers:
    """FlowPolicy, with gradients."""
    loaded, io = _read(folder, io, dtype)
    answers, _ = _plan(loaded, io, _behind("in.", io), executed=True)
    if "train.action" in io:
        batch = _batch(io, lambda prefix: _behind(prefix, io))
        loss = total(loaded.loss_at(batch, noise=io["train.noise"], t=io["train.t"]))
        answers.found |= {"loss": loss, **_gradients(loaded, loss, io)}
    return _in_time(loaded, io, answers)


def _read(folder: Path, io: Mapping[str, Tensor], dtype: torch.dtype) -> tuple[Loaded, dict[str, Tensor]]:
    """The policy and the recorded numbers in this precision."""
    loaded = open_folder(folder).foreign()
    loaded.policy.to(dtype)
    return loaded, {name: value.to(dtype) if value.is_floating_point() else value for name, value in io.items()}


def _gradients(loaded: Loaded, loss: Tensor, io: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`grad.NAME` of the loss for each such name of the case, whose tensors are each one of ours."""
    wanted, weights = [name for name in io if name.startswith("grad.")], dict(loaded.policy.named_parameters())
    own = [weights[loaded.names[name.removeprefix("grad.")]] for name in wanted]
    return dict(zip(wanted, torch.autograd.grad(loss, own), strict=True)) if wanted else {}


def _behind(prefix: str, io: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Raw observations (B, T, ...) under `prefix`, images with their channels last."""
    named = {n.removeprefix(prefix): v for n, v in io.items() if n.startswith(prefix)}
    images = {n: v.movedim(-3, -1) for n, v in named.items() if n.startswith(IMAGES)}
    return {name: value for name, value in (named | images).items() if name not in INPUTS}


def _batch(io: Mapping[str, Tensor], seen: Callable[[str], dict[str, Tensor]]) -> dict[str, Any]:
    """The training windows of a case; observations of its plan where it has none of their own."""
    pad = {"action_is_pad": io["train.action_is_pad"]} if "train.action_is_pad" in io else {}
    return {**(seen("train.") or seen("in.")), "action": io["train.action"], **pad}


def _draws(io: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sampler's noise."""
    given = {"noise": "noise.initial", "step_noise": "noise.variance"}
    return {ours: io[name] for ours, name in given.items() if name in io}


def _unit(loaded: Loaded) -> Tensor:
    """The raw size of one unit of the model's space, per action dimension."""
    decode, width = loaded.postprocess, loaded.policy.spec.action
    return (decode(torch.ones(1, 1, width)) - decode(torch.zeros(1, 1, width))).abs()[0, 0]


def _plan(loaded: Loaded, io: Mapping[str, Tensor], obs: Batch, *, executed: bool) -> tuple[Answers, Tensor]:
    """One plan under all names that cases give it, and the whole of it in the model's space."""
    ctx = loaded.preprocess(obs)
    whole = loaded.predict(ctx, **_draws(io))
    raw, unit = loaded.postprocess(whole), _unit(loaded)
    found = {"out.horizon_normalized": whole, "out.normalized": whole, "out.action_pred": raw}
    found["out.action"] = loaded.executed(raw) if executed else raw
    units = {"out.action": unit, "out.action_pred": unit}
    if "out.global_cond" in io and ctx.vector is not None:
        # A channel outside the range of a constant statistic is a huge number, exact to its own last digits.
        found["out.global_cond"], units["out.global_cond"] = ctx.vector, io["out.global_cond"].abs()
    return Answers(found, units, report=loaded.report), whole


def _in_time(loaded: Loaded, io: Mapping[str, Tensor], answers: Answers) -> Answers:
    """With what a case has of ensembles of given plans, and of a closed loop from the same noise throughout."""
    made = {}
    if "ensemble.chunks" in io:
        ensemble = TemporalEnsemble(float(io["ensemble.coeff"]))
        made["ensemble.actions"] = torch.stack([ensemble.step(plan) for plan in io["ensemble.chunks"]])
    if "sequence.actions" in io:
        raw = _behind("sequence.", io)
        ticks, rows = io["sequence.actions"].shape[:2]
        control = suited_rows(Fixed(loaded, _draws(io)), rows)
        for row in range(rows):
            control.reset(row, torch.Generator())
        actions = []
        for t in range(ticks):
            stepped = control.step([{n: v[t, b].numpy() for n, v in raw.items()} for b in range(rows)])
            actions.append(torch.from_numpy(np.stack([np.asarray(action) for action in stepped])))
        made["sequence.actions"] = torch.stack(actions)
    answers.found |= made
    answers.units |= dict.fromkeys(made, _unit(loaded))
    return answers
