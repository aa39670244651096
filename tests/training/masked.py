"""Policies of every generative rule, small, and a batch whose rows are padded unlike; one step's gradients of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nextmove.contracts import Optim
from nextmove.decoders import Consistency, Diffusion, Flow, Latent, MeanFlow, Mixture, Regression, Shortcut
from nextmove.decoders.autoregressive import Autoregressive
from nextmove.encoders import Observation, State
from nextmove.models.policy import ActionSpace, Policy, PolicySpec, Timing
from nextmove.models.policy.assemble import assemble
from nextmove.nn import ActVaeEncoder, Gpt, Mlp
from nextmove.training import TrainConfig
from nextmove.training.distributed import World
from nextmove.training.optim import Update
from nextmove.training.step import Step

ROWS, HORIZON = 8, 6
SPEC = PolicySpec.of_states({"observation.state": 3}, 2, 10)
TRUNK = Mlp(width=16, depth=1, time_width=8)
RULES: dict[str, Any] = {
    "regression": Regression(trunk=TRUNK),
    "mixture": Mixture(trunk=TRUNK, modes=2),
    "flow": Flow(trunk=TRUNK),
    "flow-prefix": Flow(trunk=TRUNK, prefix=4),
    "diffusion": Diffusion(trunk=TRUNK),
    "consistency": Consistency(trunk=TRUNK),
    "shortcut": Shortcut(trunk=TRUNK),
    "meanflow": MeanFlow(trunk=TRUNK),
    "latent": Latent(
        inner=Flow(trunk=TRUNK, prefix=4),
        posterior=ActVaeEncoder(width=8, heads=2, layers=1, feedforward=16, dropout=0.0),
    ),
    "tokens": Autoregressive(trunk=Gpt(width=16, layers=1, heads=2, dropout=0.0), classes=8),
}


@dataclass(frozen=True)
class Small:
    """A recipe of one rule."""

    decoder: Any
    actions: ActionSpace
    encoder: Observation = Observation((State(noise=0.0),))
    timing: Timing = Timing(horizon=HORIZON)


def policy(rule: str) -> Policy:
    """An untrained policy whose loss leaves padding out; the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bounded = ActionSpace(scaling="min_max", bins=8 if rule == "tokens" else 0, mask_padding=True)
        actions = bounded if rule in ("tokens", "diffusion") else ActionSpace(mask_padding=True)
        made = assemble(SPEC, Small(RULES[rule], actions))
    made.fit([batch()])
    return made.double().train()


def batch(rows: int = ROWS, seed: int = 0) -> dict[str, Tensor]:
    """Windows of which the first halves are whole and the last keep an action or two."""
    rng = torch.Generator().manual_seed(seed)
    kept = torch.where(torch.arange(rows) < rows // 2, HORIZON, 1 + torch.arange(rows) % 2)
    return {
        "observation.state": torch.randn(rows, 2, 3, generator=rng, dtype=torch.float64),
        "action": torch.randn(rows, HORIZON, 2, generator=rng, dtype=torch.float64),
        "action_is_pad": torch.arange(HORIZON) >= kept[:, None],
    }


def gradients(rule: str, accumulate: int = 1, world: World = World()) -> dict[str, Tensor]:  # noqa: B008 (frozen)
    """Gradients and terms of one step on this process's rows of the batch, as the whole world has them."""
    model = policy(rule)
    update = Update(dict(model.named_parameters()), Optim(clip=0), undecayed=set())
    config = TrainConfig(steps=1, accumulate=accumulate, bf16="off")
    step = Step(model, update, config=config, world=world, device=torch.device("cpu"))
    share = slice(world.rank * ROWS // world.size, (world.rank + 1) * ROWS // world.size)
    terms, _ = step(3, {name: value[share] for name, value in batch().items()}, 0.0)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return found | {f"term/{name}": torch.tensor(value) for name, value in terms.items()}


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The distance of two sets of gradients and terms over the length of the first."""
    assert one.keys() == other.keys()
    distance = sum((one[name] - other[name]).square().sum() for name in one)
    return float(distance / sum(value.square().sum() for value in one.values())) ** 0.5
