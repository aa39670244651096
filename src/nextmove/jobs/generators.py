"""Text or pictures to a saved generator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from nextmove import data, store, training
from nextmove.codecs.palette import Palette
from nextmove.config import ConfigError
from nextmove.contracts import seeded
from nextmove.data import Affine, DataError, texts
from nextmove.decoders import Flow
from nextmove.decoders.diffusion import DiffusionDecoder
from nextmove.decoders.reflow import simulate
from nextmove.jobs import provenance
from nextmove.jobs.fit import Task, fit, held_batches
from nextmove.jobs.repeat import at_least, place, share
from nextmove.models.generator import Generator, ImageSpec
from nextmove.systems import find
from nextmove.training import checkpoint
from nextmove.training.distributed import alone

STILL = Affine()
HELD_VALUES = 2**18
"""About how many pixel values the validation loss is measured on: of large pictures there are fewer."""


def train_generator(
    system: str,
    source: str | Path,
    *,
    out: str | Path | None = None,
    minutes: float = 0.0,
    clock: Literal["wall", "busy"] = "wall",
    steps: int = 0,
    unit: Literal["bytes", "characters", "bpe"] = "characters",
    vocabulary: int = 1024,
    length: int = 128,
    side: int = 32,
    levels: int = 0,
    labels: bool = False,
    augment: Affine = STILL,
    tokenizer: str | Path | None = None,
    teacher: str | Path | None = None,
    pairs: int = 10_000,
    holdout: float = 0.05,
    seed: int = 0,
    workers: int = 0,
    threads: int = 2,
    accumulate: int = 1,
    bf16: Literal["auto", "on", "off"] = "auto",
    device: str = "cpu",
    save_every: int = 0,
    validate_every: int = 0,
    log_every: int = 50,
    resume: bool = False,
    recipe: Any = None,
) -> Generator:
    """Trains a generator of text or images and saves it as OUT/model; returns it with its averaged weights.

    Exactly one of `minutes` and `steps` is the budget. The source's customary test part is never trained on; the
    validation loss is measured on a share of the rest.

    Args:
        system: Name of a built system of text or images (`nextmove systems`).
        source: Text: shakespeare, stdlib, a file or a folder of .txt files. Images: digits, mnist, a folder of
            pictures, or a LeRobot data set, whose camera is used.
        out: Folder for the run; default runs/SYSTEM.
        minutes: Budget in minutes of training.
        clock: Minutes on the wall, or busy ones: processor time, from which other programs take nothing.
        steps: Budget in optimiser steps.
        unit: Text: what a token is.
        vocabulary: Text: pieces of a BPE vocabulary.
        length: Text: tokens of a training window.
        side: Images of folders and cameras: height and width, pixels.
        levels: Images: values a pixel may have (2: black and white); 0: as the source has.
        labels: Images: tell the model each picture's label, so that it can be asked for one.
        augment: Images: turned, moved and scaled at random.
        tokenizer: Images: the saved VQ-VAE or VQ-GAN whose tokens the model learns (vqgan-prior).
        teacher: Images: reflow: go on from this run's trained flow, on pairs of noise and image that it makes itself.
        pairs: Images: how many of them.
        holdout: Share of the training part kept for the validation loss.
        seed: Decides initial weights, order, noise and dropout.
        workers: Processes that load data.
        threads: Threads of the arithmetic.
        accumulate: Gradient steps summed into one optimiser step.
        bf16: Mixed precision; auto switches it on where this machine multiplies faster in it, which is measured.
        device: cpu or cuda.
        save_every: Steps between checkpoints; 0: every 20 seconds, less often where writing one takes long.
        validate_every: Steps between validations; 0: ten times a run.
        log_every: Steps that a line of train.jsonl and TensorBoard is the mean of.
        resume: Go on from the run's last checkpoint; where there is none, begin.
        recipe: Sizes and settings of the system.

    Raises:
        ConfigError, DataError, CheckpointError: for an option, a source or a checkpoint that does not fit, and other
            ValueErrors for numbers out of bounds; the message names field or file.
        FileExistsError: where OUT holds a run and `resume` is off.
        FileNotFoundError: for a tokenizer or teacher that is not there.
        InUseError: where another run writes into OUT.
        DivergedError: where the loss is not finite any more; the last checkpoint stays.
        OSError: for a disk that is full, naming the file.
        StoppedError: a KeyboardInterrupt, when SIGINT or SIGTERM asked it to stop; it says what is kept.
    """
    config = training.TrainConfig(
        steps=steps, minutes=minutes, clock=clock, seed=seed, threads=threads, bf16=bf16, accumulate=accumulate,
        save_every=save_every, validate_every=validate_every, log_every=log_every, resume=resume, device=device,
    )  # fmt: skip
    at_least(0, workers=workers)
    at_least(1, pairs=pairs)
    at_least(4, length=length)
    share(holdout=holdout)
    source, out = str(source), place(Path(out) if out else Path("runs") / system)
    with alone(out):
        if not resume:
            checkpoint.untaken(out)
        torch.manual_seed(seed)
        if find(system).family == "text":
            task = text_task(system, source, unit, vocabulary, length, holdout, recipe)
        elif teacher is not None:
            # The command line always passes a recipe: the system's own is as good as none.
            given = recipe not in (None, find(system).load()())
            if given or augment != STILL or levels or labels or tokenizer is not None:
                raise ConfigError(
                    "--teacher: reflow keeps the teacher's sizes, settings and images; leave out --recipe.*, "
                    "--augment.*, --levels, --labels and --tokenizer"
                )
            torch.set_num_threads(threads)
            task = reflow_task(system, source, teacher, pairs, holdout, seed)
        else:
            task = image_task(system, source, side, levels, labels, holdout, seed, tokenizer, augment, recipe)
        trained: Generator = fit(task, out, config, workers=workers)
    return trained


def text_task(system: str, source: str, unit: Any, vocabulary: int, length: int, holdout: float, recipe: Any) -> Task:
    """A language model and the windows of a text."""
    from nextmove.codecs.tokenizer import Tokenizer
    from nextmove.models.text.assemble import fit_codec, spec_of

    whole = texts.text(source)
    train, test = texts.split(whole)
    # An alphabet is no statistic: it is the whole text's, or a character of the test part would have no id.
    codec = fit_codec(unit, whole if unit == "characters" else train, size=vocabulary)
    model = store.create(system, spec_of(codec, length), recipe)
    if isinstance(codec, Tokenizer):
        model.codec.adopt(codec)
    ids = codec.encode(train)
    kept = len(ids) - int(len(ids) * holdout)
    held = texts.windows(ids[kept:], length, training=False) if len(ids) - kept >= length else ()
    return Task(
        model,
        texts.windows(ids[:kept], length, training=True),
        held_batches(held, 64, 512) if held else [],
        {
            "data": source,
            "tokens": kept,
            "unit": unit,
            "vocabulary": codec.classes,
            "content": provenance.text_content(train, test),
        },
    )


def image_task(
    system: str,
    source: str,
    side: int,
    levels: int,
    labels: bool,
    holdout: float,
    seed: int,
    tokenizer: str | Path | None,
    augment: Affine,
    recipe: Any,
) -> Task:
    """An image generator and the pictures of a source."""
    found = data.images(source, size=side)
    for note in found.notes:
        print(f"{source}: {note}")
    whole = found.train if labels else replace(found.train, label=None)
    if labels and not whole.classes:
        raise DataError(f"{source}: expected pictures with labels, found none; leave out --labels")
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed)).numpy()
    kept = len(whole) - int(len(whole) * holdout)
    channels, height, width = whole.image.shape[1:]
    spec = ImageSpec(height, width, channels, levels or found.levels, whole.classes)
    model = _create(system, spec, recipe, tokenizer)
    seen = whole.take(order[:kept])
    if isinstance(model.codec, Palette):
        model.codec.fit(seen.image)
    facts = {"data": source, "pictures": kept, "levels": spec.levels, "labels": labels}
    facts["content"] = provenance.picture_content(seen, found.test)
    most = min(1024, max(128, HELD_VALUES // spec.values))
    held = held_batches(whole.take(order[kept:]), 256, most)
    return Task(model, seen, held, facts, None if augment == STILL else augment)


def reflow_task(system: str, source: str, teacher: str | Path, pairs: int, holdout: float, seed: int) -> Task:
    """A trained flow and pairs of noise and image at the ends of its own paths (Liu et al. 2023)."""
    trained = store.load(teacher)
    if trained.card["system"] != system:
        raise ConfigError(f"--teacher: expected a run of {system}, found one of {trained.card['system']}")
    if not isinstance(trained.decoder, DiffusionDecoder) or not isinstance(trained.decoder.config, Flow):
        raise ConfigError(f"--teacher: {system} has no straight paths to flow along; flow has")
    if trained.facts["data"] != source:
        raise ConfigError(f"--teacher: expected a run trained on {source}, found {trained.facts['data']}")
    label = torch.arange(pairs) % trained.spec.classes if trained.spec.classes else None
    made = simulate(trained, pairs, rng=seeded(seed, 9), label=label)
    kept = pairs - int(pairs * holdout)
    facts = {**trained.facts, "teacher": str(teacher), "teacher_hash": store.weights_hash(teacher), "pairs": kept}
    return Task(trained, made.take(slice(kept)), held_batches(made.take(slice(kept, None)), 256, 1024), facts)


def _create(system: str, spec: ImageSpec, recipe: Any, tokenizer: str | Path | None) -> Any:
    from nextmove.models.image.vqgan_prior import PriorSpec, VqGanPrior, adopt

    recipe = find(system).load()() if recipe is None else recipe
    if not isinstance(recipe, VqGanPrior):
        if tokenizer is not None:
            raise ConfigError(f"--tokenizer: {system} works on pixels; leave it out")
        return store.create(system, spec, recipe)
    if tokenizer is None:
        raise ConfigError(f"--tokenizer: {system} needs the run of a trained vqvae or vqgan")
    trained = store.load(tokenizer)
    prior = store.create(system, PriorSpec(spec, trained.card["recipe"]), recipe)
    adopt(prior, trained)
    return prior
