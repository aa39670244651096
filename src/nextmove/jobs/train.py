"""Trains a system on a source and saves the model: policies on demonstrations, generators on text or images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nextmove.jobs.adopt import begin, slots
from nextmove.jobs.fit import fit
from nextmove.jobs.repeat import at_least, nothing_left, share, writable_dir
from nextmove.jobs.tasks import Asked, trained
from nextmove.jobs.tasks.named import named
from nextmove.jobs.tuned import adapted, warn_frozen_planner
from nextmove.training import TrainConfig, checkpoint
from nextmove.training.distributed import alone


def train(
    system: str,
    source: str | Path,
    *,
    out: str | Path | None = None,
    holdout: float = 0.05,
    workers: int = 0,
    config: TrainConfig | None = None,
    start: Sequence[str] = (),
    lora: int = 0,
    lora_names: tuple[str, ...] = ("*",),
    options: Any = None,
    recipe: Any = None,
    **fields: Any,
) -> Any:
    """Trains a system on a source and saves it as OUT/model; returns it with its averaged weights.

    Exactly one of `minutes` and `steps` is the budget. OUT also holds train.jsonl, TensorBoard events and the
    checkpoints from which `resume` continues. What a source keeps for tests is never trained on.

    Args:
        system: Name of a built system (`nextmove systems`).
        source: Policies: the folder of a data set, LeRobot v3.0 or v2.1. Text: shakespeare, stdlib, a file or a folder
            of .txt files. Images: digits, mnist, a folder of images, or a data set, whose camera is used. Images and
            texts: a folder of images with captions.jsonl or captions.csv.
        out: Folder for the run; default runs/SYSTEM.
        holdout: Share of the source, in whole episodes for policies, that is kept for the validation loss.
        workers: Processes that load data; 0 loads in the training process, which is fastest for states and for frames
            of a store, where others are not started.
        config: Budget, seed and machine.
        start: SLOT=FOLDER: initialises a part of the model (encoder, codec, decoder, decoder.net ...) with the weights
            and statistics of the same part of a saved model; tokenizer=FOLDER: the tokenizer whose tokens a prior
            learns; backbone=FILE: the weights of the cameras' networks, torchvision's (.safetensors or .pth, which is
            not unpickled) or efficientnet-lite0, from its package; language=SOURCE: the language model of one that
            reads images: smollm2, from its package, a .gguf file, or a folder. To freeze the part:
            --recipe.optim.scales SLOT 0. A FOLDER alone: a whole policy, ours or LeRobot's, with its recipe.
        lora: Rank of low-rank adapters, which are trained in place of all else, saved apart as OUT/adapters.safetensors
            and merged into OUT/model; 0 = none.
        lora_names: Patterns of the names of the layers that have one (`*` for any letters): encoder.language.*.
        options: What the family chooses of its source: `jobs.tasks.policy.Options`, `text.Options`, `images.Options`.
        recipe: Sizes and settings of the system.
        **fields: Fields of `config` and of `options` by their names: `train("act", "demos", minutes=6, episodes=100)`.

    Returns:
        The Policy, Generator or Tokenizer, in evaluation mode.

    Raises:
        ConfigError, DataError, CheckpointError: for an option, a source or a checkpoint that does not fit, and other
            ValueErrors for numbers out of bounds; the message names field or file.
        FileExistsError: where OUT holds a run and `resume` is off.
        FileNotFoundError: for a model to begin with, a tokenizer or a teacher that is not there.
        InUseError: where another run writes into OUT.
        DivergedError: where the loss is not finite any more; the last checkpoint stays.
        OSError: for a disk that is full, naming the file.
        StoppedError: a KeyboardInterrupt, when SIGINT or SIGTERM asked it to stop; it says what is kept.
    """
    family = trained(system)
    of_run, of_source = named(fields, TrainConfig, family.options)
    config = TrainConfig(**of_run) if config is None else replace(config, **of_run)
    options = family.options(**of_source) if options is None else replace(options, **of_source)
    at_least(0, workers=workers, lora=lora)
    share(holdout=holdout)
    out = Path(out) if out else Path("runs") / system
    with nothing_left(out), alone(writable_dir(out)) as world:
        if not config.resume:
            checkpoint.require_new(out)
        torch.manual_seed(config.seed)
        asked = Asked(system, str(source), recipe, holdout, config.seed, config.threads, slots(start))
        task = family.task(asked, options)
        begun = task.facts.get("start", {})
        begun |= begin(task.model, {slot: folder for slot, folder in asked.start.items() if slot not in begun})
        if begun:
            task.facts["start"] = begun
        if lora:
            task.facts["adapters"] = adapted(task.model, lora, lora_names)
        warn_frozen_planner(task.model)
        task = task if task.prepare is None else task.prepare(task, world)
        return fit(task, out, config, workers=workers)
