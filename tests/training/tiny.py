"""A small trainable with what can go wrong in a loop: dropout, noise, augmentation, a buffer, an embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nextmove.contracts import Batch, Optim, Rng, Shard, normal, seeded, uniform
from nextmove.training import Result, TrainConfig, train

OPTIM = Optim(lr=3e-3, warmup=3, batch=16, clip=1.0, ema=0.9999)


class Tiny(nn.Module):
    """A flow of 3-vectors given a 4-vector and a class."""

    def __init__(self, dropout: float = 0.3, width: int = 16, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.embed = nn.Embedding(5, 4)
            self.norm = nn.LayerNorm(3 + 1 + 4 + 4)
            self.first = nn.Linear(12, width)
            self.dropout = nn.Dropout(dropout)
            self.last = nn.Linear(width, 3)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor, label: Tensor) -> Tensor:
        """The velocity (B, 3)."""
        inputs = self.norm(torch.cat([x, t, condition, self.embed(label)], -1))
        return self.last(self.dropout(torch.relu(self.first(inputs))))

    def loss(self, batch: Batch, *, rng: Rng) -> dict[str, Tensor]:
        """Two terms."""
        if self.training:
            self.seen += 1
        x = batch["x"]
        noise, t = normal(x.shape, rng, like=x), uniform((len(x), 1), rng, like=x)
        y = self(noise + t * (x - noise), t, batch["condition"], batch["label"])
        return {"flow": (y - (x - noise)).square().mean(), "size": 0.01 * y.abs().mean()}


def batches(rows: int = 16, seed: int = 0, poison: int = -1) -> Callable[[int, int, int], Iterator[Batch]]:
    """Batches that are functions of the step alone, augmented; x of step `poison` is not finite."""

    def one(step: int, rank: int, world: int) -> dict[str, Any]:
        drawn = seeded(seed, step)
        condition = torch.randn(rows, 4, generator=drawn)
        label = torch.randint(5, (rows,), generator=drawn)
        share = slice(rank * rows // world, (rank + 1) * rows // world)
        condition, label = condition[share], label[share]
        x = condition[:, :3] * 2 + label[:, None]
        condition = condition + 0.1 * normal(condition.shape, Shard(seeded(seed, step, 1), rank, world))
        if step == poison:
            x = x * float("inf")
        return {"x": x, "condition": condition, "label": label, "task": ["push"] * len(x)}

    def stream(start: int, rank: int, world: int) -> Iterator[Batch]:
        step = start
        while True:
            yield one(step, rank, world)
            step += 1

    return stream


def held() -> list[Batch]:
    """Three batches for validation, the last one shorter."""
    stream = batches(seed=99)(0, 0, 1)
    first, second, third = next(stream), next(stream), next(stream)
    return [first, second, {name: value[:7] for name, value in third.items()}]


def run(out: Path, model: nn.Module | None = None, *, optim: Optim = OPTIM, **settings: Any) -> tuple[Result, list]:
    """A run of the tiny model that prints nothing; also gives the reports of its steps.

    `stop`: step after which the run is condition to stop; `stream`: batches of another kind; `validation`,
    `save_model`, `data`: arguments of train.
    """
    stop, reports = settings.pop("stop", None), []
    arguments = {name: settings.pop(name) for name in ("validation", "save_model", "data") if name in settings}
    stream = settings.pop("stream", None) or batches()
    settings = {"threads": 1, "bf16": "off", "progress": "off", "tensorboard": False, "log_every": 1, **settings}

    def on_step(report: Any) -> bool:
        reports.append(report)
        return report.step == stop

    model = Tiny() if model is None else model
    config = TrainConfig(**settings)
    return train(model, stream, out=out, config=config, optim=optim, on_step=on_step, **arguments), reports
