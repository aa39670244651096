"""Trains a model on its data and saves it: what every kind of training has in common."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nextmove import store, training
from nextmove.config import encode
from nextmove.contracts import Batch, Optim
from nextmove.data import Augment, Loader, Source
from nextmove.host.signals import StoppedError
from nextmove.models import adapters
from nextmove.nn.lora import merge
from nextmove.training import checkpoint
from nextmove.training.distributed import World
from nextmove.training.parts import batch_size, numbers

PLACES = ("data", "teacher")
"""Facts that say where something lies, not what it is."""
HELD = 1 << 24
"""Numbers that are kept for the validation loss at most: long windows take no more memory than short ones."""
SAMPLED = 16
"""Rows that stand for what the data hold."""


@dataclass(frozen=True)
class Task:
    """An untrained model, the rows it learns from, held-out batches, and what its card says of them."""

    model: Any
    source: Source
    held: Sequence[Batch]
    facts: dict[str, Any]
    augment: Augment | None = None
    later: Callable[[], dict[str, Any]] = dict
    """More facts, which are worked out when a checkpoint is first written or read."""
    prepare: Callable[[Task, World], Task] | None = None
    """What is left to be done once the model has the weights that it begins with."""

    @property
    def known(self) -> dict[str, Any]:
        """All facts."""
        return {**self.facts, **self.later()}


def fit(task: Task, out: Path, config: training.TrainConfig, *, workers: int = 0) -> Any:
    """Trains the model, saves it with its averaged weights as OUT/model and returns it with them.

    A finished run whose budget is not raised is left as it is: its saved model is returned. A signal ends the training
    with what there is, saved as well; StoppedError then says where. Adapters are saved as OUT/adapters.safetensors, and
    merged into the model.
    """
    model = task.model
    found = _finished(task, out, config) if config.resume else None
    if found is not None:
        return found
    optim: Optim = model.card.recipe.optim
    if workers and not getattr(task.source, "decodes", True):
        print(f"workers: 0 in place of {workers}: nothing is decoded, and batches are gathered faster than handed over")
        workers = 0

    rows = optim.batch // getattr(task.source, "each", 1)

    def batches(start: int, rank: int, world: int) -> Loader:
        return Loader(
            task.source, batch=rows, seed=config.seed, start=start, rank=rank, world=world, workers=workers,
            augment=task.augment,
        )  # fmt: skip

    result = training.train(
        model, batches, out=out, config=config, optim=optim, validation=task.held or None, data=partial(identity, task)
    )
    facts = _facts(task, config, result)
    result.give(model)
    model.facts = facts
    if model.adapters is not None:
        if result.first:
            adapters.save(model, out / "adapters.safetensors", model.adapters)
        merge(model)
        model.adapters = None
    if result.first:
        store.save(model.eval(), out / "model", facts=facts)
    if result.stopped or not result.finished:
        saved = out / "model"
        message = f"{out}: stopped at step {result.step} of a budget of {config.budget}; kept as "
        message += f"{saved}, finished" if result.finished else f"{result.checkpoint} and, unfinished, {saved}"
        raise StoppedError(message, result.stopped or signal.SIGINT)
    return model.eval()


def _finished(task: Task, out: Path, config: training.TrainConfig) -> Any:
    """The saved model of a run whose budget is used up; None where there is still something to do."""
    done = _done(task.model, identity(task), out, config)
    if done is None:
        return None
    try:
        found = store.load(out / "model")
    except ValueError as problem:
        print(f"{problem}; saving it anew from the last checkpoint")
        return None
    print(f"{out}: already finished at step {done}; more --steps or --minutes go on from there")
    return found


def _facts(task: Task, config: training.TrainConfig, result: training.Result) -> dict[str, Any]:
    """What a saved model says of its training."""
    return task.known | {
        "seed": config.seed,
        "optim": encode(task.model.card.recipe.optim),
        "steps": result.step,
        "budget": config.budget,
        "minutes": round(result.elapsed / 60, 2),
        "loss": round(result.loss, 6) if math.isfinite(result.loss) else None,
        "finished": time.strftime("%Y-%m-%d", time.gmtime()) if result.finished else None,
    }


def identity(task: Task) -> dict[str, Any]:
    """What identifies a task's data independently of its path: facts, numbers of rows, hashes of the content.

    Data without hashes: means of a few rows' absolute values with three digits.
    """
    facts = {name: value for name, value in task.known.items() if name not in PLACES}
    if "content" in facts:
        what = {"content": dict(facts["content"]["features"])}
    else:
        picks = np.linspace(0, len(task.source) - 1, min(len(task.source), SAMPLED)).astype(np.int64)
        some = numbers(task.source.batch(picks))
        what = {"means": {name: f"{x.double().abs().mean():.3g}" for name, x in some.items()}}
    return facts | {
        **what,
        "rows": len(task.source),
        "held_rows": sum(map(batch_size, task.held)),
        "augment": encode(task.augment),
    }


def train_or_resume(out: Path, train: Callable[..., Any]) -> None:
    """Calls `train(out=, resume=)` unless OUT/model had its whole budget; what was interrupted is resumed.

    Raises StoppedError where the training is stopped again, so that later steps do not use an unfinished model.
    """
    if not finished(out):
        train(out=out, resume=checkpoint.newest(out / "checkpoints", "last") is not None)


def finished(out: Path) -> bool:
    """Whether OUT/model had its whole budget."""
    try:
        # The weights are written first: a folder without a config is one whose saving was interrupted.
        return store.read_config(out / "model")["facts"].get("finished") is not None
    except (ValueError, FileNotFoundError):
        return False


def _done(model: Any, data: dict[str, Any], out: Path, config: training.TrainConfig) -> int | None:
    """The last step of a finished run of this model, data and seed that has used the budget, else None."""
    last = checkpoint.newest(out / "checkpoints", "last")
    if last is None or not finished(out):
        return None
    try:
        _, facts = checkpoint.read(last)
    except checkpoint.DamagedError:
        return None
    # What differs is named by the training that would go on.
    if facts["card"] != encode(vars(model.card)) or facts["seed"] != config.seed:
        return None
    kept, new = facts.get("data") or {}, json.loads(json.dumps(data))
    if any(kept[name] != new[name] for name in kept if name in new):
        return None
    used = facts["step"] >= config.steps if config.steps else facts["elapsed"] >= 60 * config.minutes
    return int(facts["step"]) if used else None


def held_batches(source: Source, size: int, most: int) -> list[Batch]:
    """At most `most` rows of at most `HELD` numbers, evenly out of all, in batches of about `size`; none of no row."""
    if not len(source):
        return []
    most = max(1, min(most, HELD // sum(value.numel() for value in numbers(source.batch([0])).values())))
    picks = np.linspace(0, len(source) - 1, min(len(source), most)).astype(np.int64)
    return [source.batch(part) for part in np.array_split(picks, max(1, len(picks) // size))]
