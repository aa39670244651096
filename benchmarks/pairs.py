"""Which decoder, action space and sampler belong together, and how far their plans reach.

    python benchmarks/pairs.py

Every pair that `nextmove train SYSTEM --decoder D --recipe.actions...` and `nextmove evaluate --sampler S` can form is
built around a network that answers perfectly: what its plans do not reach, no training could make them reach. Writes a
table for docs/results.md.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from nextmove import decoders, parts
from nextmove.config import ConfigError
from nextmove.contracts import Context, normal, seeded, uniform
from nextmove.decoders.diffusion import DiffusionDecoder
from nextmove.decoders.reach import as_saved
from nextmove.decoders.solvers import SOLVERS
from nextmove.decoders.targets import target_value
from nextmove.encoders import State
from nextmove.evaluation.machine import machine
from nextmove.jobs.tasks.exchanged import exchange
from nextmove.models.model import with_sampling
from nextmove.models.policy import Policy, PolicySpec
from nextmove.models.policy.action_space import Scaling
from nextmove.systems import built, find

DOCS = Path(__file__).resolve().parent.parent / "docs"
SPEC = PolicySpec.of_states({"observation.state": 2}, 3, 10.0)
STEPS = 10
"""Network calls of a sampler chosen after training."""
FITTED = tuple(scaling for scaling in get_args(Scaling) if scaling != "identity")
"""Without what takes numbers as they are, for data that were scaled before."""
SETTINGS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "Diffusion": [("sampler.clip", {"clip": clip}) for clip in (0.0, 0.5, 5.0)],
    "Mixture": [("tanh", {"tanh": True})],
    "Shortcut": [("clip", {"clip": clip}) for clip in (1.0, 4.0)],
}
"""Options of a decoder that bound what it generates."""


class Perfect(nn.Module):
    """A network that answers what leads to `x1`, one row of it for each row of the batch, in the decoder's terms."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, self.x1 = config, torch.zeros(0)
        self.weights = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, t: Tensor | None, ctx: Context, cache: Any = None) -> Any:
        """The answer of a decoder that reads a time, names values, or continues ids."""
        c = self.config
        if isinstance(c, decoders.Autoregressive):
            read = x.shape[1] + (cache or 0)
            return nn.functional.one_hot(self.x1[:, read - x.shape[1] : read], c.classes).float() * 100, read
        if isinstance(c, decoders.Regression):
            return self.x1
        if isinstance(c, decoders.Mixture):
            mean = self.x1.clamp(-1 + 1e-6, 1 - 1e-6).atanh() if c.tanh else self.x1
            each = mean.repeat(1, 1, c.modes)
            return torch.cat([each, torch.full_like(each, -20), each.new_zeros(*each.shape[:2], c.modes)], -1)
        assert t is not None
        velocity = (self.x1 - x) / (1 - t[:, :1, None] / c.time_scale)
        bound = getattr(c, "clip", 0) or math.inf
        return velocity.clamp(-bound, bound)


@dataclass(frozen=True)
class PerfectTrunk:
    """A trunk of any shape; the decoder's config is set afterwards."""

    def build(self, **_: Any) -> Perfect:
        return Perfect(None)

    def build_tokens(self, **_: Any) -> PerfectTokens:
        return PerfectTokens(None)


class PerfectTokens(Perfect):
    """The same for ids, which are called without a time."""

    def forward(self, x: Tensor, ctx: Any, cache: Any = None) -> Any:  # type: ignore[override]
        return super().forward(x, None, ctx, cache)


def perfect(policy: Policy, x1: Tensor) -> None:
    """Teaches every network of a policy built on `PerfectTrunk` to lead to x1 (B, ...)."""
    decoder = policy.decoder
    if isinstance(decoder, DiffusionDecoder):
        target, noise = decoder.config.target, [torch.zeros(())]

        def at(x: Tensor, node: Any) -> Tensor:
            # Where no noise is left, it is what it was.
            noise[0] = (x - node.a * x1) / node.b if node.b else noise[0]
            return target_value(target, x1, noise[0], node)

        def answer(ctx: Context, x: Tensor, clean: Any) -> Any:
            return at

        decoder._answer = answer  # type: ignore[method-assign]
        return
    inner = getattr(decoder, "inner", decoder)
    inner.net.config, inner.net.x1 = inner.config, x1


def demonstrations(policy: Policy) -> dict[str, Tensor]:
    """Windows with a gripper that is closed in a twentieth of them, a bell curve, and what never moves."""
    rows, horizon = 400, policy.horizon
    gripper = (torch.arange(rows) % 20 == 0).float()[:, None].expand(rows, horizon)
    bell = 1e-4 * normal((rows, horizon), seeded(1)) + 0.3
    seen = {"observation.state": uniform((rows, policy.n_obs_steps, 2), seeded(2))}
    return {**seen, "action": torch.stack([gripper, bell, torch.full_like(bell, 0.04)], -1)}


def reached(policy: Policy, sampler: str | None) -> float:
    """The least share, over moving dimensions and steps, of the demonstrations' range that perfect plans span."""
    batch = demonstrations(policy)
    policy.fit([batch])
    ends = torch.stack([batch["action"].amin(0), batch["action"].amax(0)])
    obs = {name: batch[name][:2] for name in policy.features}
    perfect(policy.eval(), policy.codec.encode(ends, obs))
    with_sampling(policy, sampler, STEPS if sampler else 0)
    plan = policy.generate(obs, rng=seeded(0))
    assert torch.allclose(plan[..., 2], torch.tensor(0.04), rtol=1e-6), "what never moves is planned otherwise"
    return float(((plan[1] - plan[0]) / (ends[1] - ends[0]))[..., :2].min())


@dataclass(frozen=True)
class Pair:
    """One choice of all parts, what became of it, and how far its plans reach (as if it were allowed)."""

    system: str
    decoder: str
    scaling: str
    per_step: bool
    sampler: str | None
    verdict: str
    sentence: str
    reach: float


def recipes() -> Iterator[tuple[str, str, Any]]:
    """System, decoder with its settings, and recipe, of every exchange there is and every bound that can be set."""
    for system, name in product(built("policy"), (None, *parts.DECODERS)):
        own = system.load()()
        # What is looked at has no part in it.
        own = replace(own, encoder=replace(own.encoder, parts=(State(),)))
        if name is not None and (system.name == "act" or isinstance(own.decoder, parts.DECODERS[name])):
            continue
        recipe = exchange(own, name, "mlp" if name and system.name == "action-tokens" else None)
        kind = type(recipe.decoder).__name__
        yield system.name, kind, recipe
        for setting, change in SETTINGS.get(kind, []) if system.name in ("flow-policy", "diffusion-policy") else []:
            changed = replace(recipe.decoder.sampler, **change) if kind == "Diffusion" else None
            decoder = replace(recipe.decoder, **({"sampler": changed} if changed else change))
            yield system.name, f"{kind} ({setting} {next(iter(change.values()))})", replace(recipe, decoder=decoder)


def around(decoder: Any) -> Any:
    """A decoder config around perfect networks."""
    if isinstance(decoder, decoders.Latent):
        small = replace(decoder.posterior, width=16, heads=2, feedforward=16, layers=1)
        return replace(decoder, inner=around(decoder.inner), posterior=small)
    # A perfect network has no levels inside whose features could be kept apart.
    rest = {"dispersive": 0.0} if getattr(decoder, "dispersive", 0.0) else {}
    return replace(decoder, trunk=PerfectTrunk(), **rest)


def walk() -> Iterator[Pair]:
    """Every pair: as the exchange leaves it, and with each scaling asked for by name."""
    for system, kind, recipe in recipes():
        samplers = [None, *SOLVERS] if hasattr(recipe.decoder, "sampler") and system == "flow-policy" else [None]
        recipe = replace(recipe, decoder=around(recipe.decoder))
        for scaling, per_step in product((None, *FITTED), (True, False)):
            actions = replace(recipe.actions, scaling=scaling or recipe.actions.scaling, per_step=per_step)
            for sampler in samplers:
                yield judged(system, kind, replace(recipe, actions=actions), scaling is None, sampler)


def judged(system: str, kind: str, recipe: Any, exchanged: bool, sampler: str | None) -> Pair:
    """What becomes of a recipe and a sampler."""
    sentence, own = "", find(system).load()().actions.scaling
    brings = exchanged and recipe.actions.scaling != own
    try:
        share = reached(recipe.build(SPEC), sampler)
        verdict = f"brings {recipe.actions.scaling}" if brings else "allowed"
    except ConfigError as problem:
        sentence, verdict = str(problem), "refused"
        with as_saved("pairs"):
            share = attempted(recipe, sampler)
    name = f"{own}, exchanged for {recipe.actions.scaling}" if brings else recipe.actions.scaling
    return Pair(system, kind, name, recipe.actions.per_step, sampler, verdict, sentence, share)


def attempted(recipe: Any, sampler: str | None) -> float:
    """How far plans would reach if the pair were not refused; NaN where it cannot be run at all."""
    try:
        return reached(recipe.build(SPEC), sampler)
    except (ConfigError, ValueError, RuntimeError):
        return math.nan


def table(pairs: list[Pair]) -> list[list[str]]:
    """One row for all that share decoder, scaling and verdict: the samplers in it and the least reach."""
    rows: dict[tuple[str, str, str], list[Pair]] = {}
    for pair in pairs:
        rows.setdefault((pair.decoder, pair.scaling, pair.verdict), []).append(pair)
    out = []
    for (decoder, scaling, verdict), found in sorted(rows.items(), key=lambda row: row[0]):
        samplers = list(dict.fromkeys(p.sampler or "its own" for p in found))
        share = min((p.reach for p in found if not math.isnan(p.reach)), default=math.nan)
        shown = "–" if math.isnan(share) else f"{share:.2f}"
        out.append([decoder, scaling, ", ".join(samplers), verdict, f"({shown})" if verdict == "refused" else shown])
    return out


def main() -> None:
    import logging

    logging.getLogger("nextmove").setLevel(logging.ERROR)
    pairs = list(walk())
    content = {
        "title": "Which decoder, scaling and sampler belong together",
        "command": "python benchmarks/pairs.py",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "note": f"{len(pairs)} pairs that the command line can form, each around a network that answers perfectly; "
        "statistics per step of the horizon and over all steps alike. *Reached* is the range that plans span as a "
        "share of the demonstrations' (the least of all dimensions and steps; a gripper is closed in 5 % of the "
        "windows), of refused pairs in brackets what it would be; a dash: nothing could be planned.",
        "columns": ["decoder", "scaling of actions", "samplers", "verdict", "reached"],
        "rows": table(pairs),
    }
    (DOCS / "data" / "pairs.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    for row in content["rows"]:
        print(*row, sep=" | ")


if __name__ == "__main__":
    main()
