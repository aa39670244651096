"""One optimiser step: draws, loss, gradients, checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from nextmove.contracts import Batch, Rng, Shard, Trainable, seeded, total
from nextmove.training.config import TrainConfig
from nextmove.training.distributed import World
from nextmove.training.optim import Update
from nextmove.training.parts import part, to
from nextmove.training.sharded import norm as norm_of

NOISE, VALIDATION, DROPOUT = 2, 3, 4
"""Third words of the seeds (seed, step, what); 1 is the data's augmentation."""

Loss: TypeAlias = Callable[..., dict[str, Tensor]]


class DivergedError(RuntimeError):
    """A loss term or a gradient is not finite; the message names it, the step and the last good checkpoint."""


class Step:
    """Computes and applies the gradients of steps; a function of (weights, seed, step, batch) alone.

    Noise comes from the seed (seed, step, 2) and is drawn for the whole global batch, of which each process and each
    accumulated part takes its rows. Dropout comes from torch's own generators, seeded by (seed, step, 4, rank, part).
    A term that averages over what a mask counts (padding) is divided by what the whole batch's mask counts: parts and
    processes get the masks of all of it, those of the batch named *_is_pad. A model whose loss compares rows of a batch
    with each other has `compared(batch)`, what it compares of each row; parts and processes get that of all rows, which
    costs a pass without gradients before.
    """

    def __init__(
        self,
        model: nn.Module,
        update: Update,
        *,
        config: TrainConfig,
        world: World,
        device: torch.device,
        mixed: bool = False,
    ) -> None:
        self.update, self.config, self.world, self.device, self.mixed = update, config, world, device, mixed
        self.model, loss = model, cast(Trainable, model).loss
        self.loss: Loss = torch.compile(loss, dynamic=False) if config.compile else loss

    def __call__(self, step: int, batch: Batch, rate: float) -> tuple[dict[str, float], dict[str, float]]:
        """Trains on this process's rows at `rate` of the peak; returns the loss terms and `grad_norm` and `lr`.

        Raises DivergedError before the weights are touched.
        """
        self.update.zero()
        names, values = self._gradients(step, batch)
        self.world.mean_gradients(self.update.parameters)
        found = norm_of(self.update.parameters, self.world) if self.world.sharded else self.update.norm()
        *numbers, norm = torch.cat([values, found.reshape(1).to(values)]).tolist()
        means = [value / self.world.size for value in self.world.sum(numbers)]
        terms = dict(zip(names, means, strict=True))
        self._check(step, terms, norm)
        return terms, {"grad_norm": norm, "lr": self.update.apply(rate, norm)}

    @contextmanager
    def tried(self, step: int, batch: Batch) -> Iterator[Callable[[bool], None]]:
        """Yields what computes the gradients of the step's first part, in bf16 or not, uncompiled.

        Afterwards weights, buffers, gradients and torch's own generators are as before.
        """
        # Other processes may not be trying: this one's rows stand for theirs.
        masks = self._masks(batch, self._alone)
        buffers, loss = [(b, b.clone()) for b in self.model.buffers()], cast(Trainable, self.model).loss

        def gradients(mixed: bool) -> None:
            features = self._features(step, batch, self._alone, mixed)
            self._part(step, batch, 0, masks, features, loss, mixed)

        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            try:
                yield gradients
            finally:
                self.update.zero()
                with torch.no_grad():
                    for buffer, value in buffers:
                        buffer.copy_(value)

    def rng(
        self, step: int, index: int, masks: Mapping[str, Tensor], features: Mapping[str, Tensor] = MappingProxyType({})
    ) -> Rng:
        """The draws of part number `index` of this process's rows; masks and features: those of the whole batch."""
        generator, parts = seeded(self.config.seed, step, NOISE), self.config.accumulate
        count = self.world.size * parts
        return generator if count == 1 else Shard(generator, self.world.rank * parts + index, count, masks, features)

    def _alone(self, rows: Tensor) -> Tensor:
        """Rows as if every process had these."""
        return torch.cat([rows] * self.world.size)

    def _masks(self, batch: Batch, gather: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """The masks of the whole batch, where it is cut, by what makes them of this process's rows."""
        if self.world.size * self.config.accumulate == 1:
            return {}
        own = {name: torch.as_tensor(value).cpu() for name, value in batch.items() if name.endswith("_is_pad")}
        return {name: gather(mask) for name, mask in sorted(own.items())}

    @torch.no_grad()
    def _features(self, step: int, batch: Batch, gather: Callable[[Tensor], Tensor], mixed: bool) -> dict[str, Tensor]:
        """What the loss compares of all rows of the batch, where it is cut, by what makes it of this process's."""
        compared, parts = getattr(self.model, "compared", None), self.config.accumulate
        if compared is None or self.world.size * parts == 1:
            return {}
        found: list[dict[str, Tensor]] = []
        for index in range(parts):
            seed_dropout(seeded(self.config.seed, step, DROPOUT, self.world.rank, index), self.device)
            with autocast(self.device, mixed):
                found.append(compared(to(part(batch, index, parts), self.device)))
        return {name: gather(torch.cat([one[name] for one in found])) for name in sorted(found[0])}

    def _gradients(self, step: int, batch: Batch) -> tuple[list[str], Tensor]:
        """Gradients left on the parameters; names of the terms and their means (terms,) over the parts."""
        parts = self.config.accumulate
        sums: dict[str, Tensor] = {}
        masks = self._masks(batch, self.world.gather)
        features = self._features(step, batch, self.world.gather, self.mixed)
        for index in range(parts):
            for name, value in self._part(step, batch, index, masks, features, self.loss, self.mixed).items():
                share = value.detach().float() / parts
                sums[name] = sums[name] + share if name in sums else share
        return list(sums), torch.stack(list(sums.values()))

    def _part(
        self,
        step: int,
        batch: Batch,
        index: int,
        masks: Mapping[str, Tensor],
        features: Mapping[str, Tensor],
        loss: Loss,
        mixed: bool,
    ) -> dict[str, Tensor]:
        """The terms of a part's loss, whose gradients are added to the parameters'."""
        parts = self.config.accumulate
        piece = to(part(batch, index, parts), self.device)
        seed_dropout(seeded(self.config.seed, step, DROPOUT, self.world.rank, index), self.device)
        with autocast(self.device, mixed):
            terms = loss(piece, rng=self.rng(step, index, masks, features))
        _scalars(terms)
        (total(terms) / parts).backward()  # type: ignore[no-untyped-call]
        return terms

    def _check(self, step: int, terms: Mapping[str, float], norm: float) -> None:
        for name, value in terms.items():
            if not math.isfinite(value):
                raise DivergedError(f"loss term {name!r} is {value} at step {step}")
        if not math.isfinite(norm):
            culprit = self.update.culprit() or "all parameters together"
            listed = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
            raise DivergedError(f"gradient of {culprit} is not finite at step {step}, loss terms {listed}")


@contextmanager
def autocast(device: torch.device, mixed: bool) -> Iterator[None]:
    """bf16 where it is safe, if `mixed`."""
    if not mixed:
        yield
        return
    with torch.autocast(device.type, torch.bfloat16):
        yield


def seed_dropout(source: torch.Generator, device: torch.device) -> None:
    """Seeds torch's own generators, which dropout draws from."""
    seed = source.initial_seed()
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _scalars(terms: Mapping[str, Tensor]) -> None:
    for name, value in terms.items():
        if value.dim():
            raise ValueError(f"loss term {name!r}: expected shape (), found {tuple(value.shape)}")
    if not terms:
        raise ValueError("loss: expected named terms, found none")
