"""The task of an image generator, and of a flow that is straightened on its own pairs (reflow)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nextmove import data, store
from nextmove.codecs.palette import Palette
from nextmove.config import ConfigError
from nextmove.contracts import seeded
from nextmove.data import Affine, DataError
from nextmove.decoders import Flow
from nextmove.decoders.diffusion import DiffusionDecoder
from nextmove.decoders.reflow import simulate
from nextmove.jobs import provenance
from nextmove.jobs.adopt import TOKENIZER, spec_of
from nextmove.jobs.fit import Task, held_batches
from nextmove.jobs.repeat import at_least
from nextmove.jobs.tasks.asked import Asked
from nextmove.models.generator import ImageSpec
from nextmove.systems import find

STILL = Affine()
HELD_VALUES = 2**18
"""About how many pixel values the validation loss is measured on: of large images there are fewer."""


@dataclass(frozen=True)
class Options:
    """What becomes of the images; the source is digits, mnist, a folder of images, or a LeRobot data set, whose
    camera is used."""

    side: int = 32
    """Height and width of the images of folders and cameras, pixels."""
    levels: int = 0
    """Values a pixel may have (2: black and white); 0: as the source has."""
    labels: bool = False
    """Condition the model on each image's label, so that it can be asked for one."""
    augment: Affine = STILL
    """Turned, moved and scaled at random."""
    tokenizer: Path | None = None
    """The older way to say --from tokenizer=FOLDER: the saved VQ-VAE or VQ-GAN whose tokens the model learns."""
    teacher: Path | None = None
    """Reflow: go on from this run's trained flow, on pairs of noise and image that it makes itself."""
    pairs: int = 10_000
    """How many of them."""

    def __post_init__(self) -> None:
        at_least(1, pairs=self.pairs)


def task(asked: Asked, options: Options) -> Task:
    """An image generator and the images of a source, or with a `teacher` the pairs that it makes.

    Raises DataError for a source without such images, ConfigError for options that contradict each other, and
    FileNotFoundError for a tokenizer or teacher that is not there.
    """
    if options.teacher is not None:
        return reflow_task(asked, options, options.teacher)
    found = data.images(asked.source, size=options.side)
    for note in found.notes:
        print(f"{asked.source}: {note}")
    whole = found.train if options.labels else replace(found.train, label=None)
    if options.labels and not whole.classes:
        raise DataError(f"{asked.source}: expected images with labels, found none; leave out --labels")
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(asked.seed)).numpy()
    kept = len(whole) - int(len(whole) * asked.holdout)
    channels, height, width = whole.image.shape[1:]
    spec = ImageSpec(height, width, channels, options.levels or found.levels, whole.classes)
    tokenizer = _tokenizer(asked, options)
    model = _create(asked, spec, tokenizer)
    seen = whole.take(order[:kept])
    if isinstance(model.codec, Palette):
        model.codec.fit(seen.image)
    facts = {"data": asked.source, "pictures": kept, "levels": spec.levels, "labels": options.labels}
    facts["content"] = provenance.picture_content(seen, found.test)
    if tokenizer is not None:
        facts["start"] = {TOKENIZER: store.weights_hash(tokenizer)}
    most = min(1024, max(128, HELD_VALUES // spec.values))
    held = held_batches(whole.take(order[kept:]), 256, most)
    return Task(model, seen, held, facts, None if options.augment == STILL else options.augment)


def reflow_task(asked: Asked, options: Options, teacher: Path) -> Task:
    """A trained flow and pairs of noise and image at the ends of its own paths (Liu et al. 2023)."""
    system, pairs = asked.system, options.pairs
    # The command line always passes a recipe: the system's own is as good as none.
    given = asked.recipe not in (None, find(system).load()())
    if given or asked.start or replace(options, teacher=None, pairs=pairs, side=Options.side) != Options(pairs=pairs):
        raise ConfigError(
            "--teacher: reflow keeps the teacher's sizes, settings and images; leave out --recipe.*, "
            "--augment.*, --levels, --labels, --tokenizer and --from"
        )
    torch.set_num_threads(asked.threads)
    trained = store.load(teacher)
    if trained.card.system != system:
        raise ConfigError(f"--teacher: expected a run of {system}, found one of {trained.card.system}")
    if not isinstance(trained.decoder, DiffusionDecoder) or not isinstance(trained.decoder.config, Flow):
        raise ConfigError(f"--teacher: {system} has no straight paths to flow along; flow has")
    if trained.facts["data"] != asked.source:
        raise ConfigError(f"--teacher: expected a run trained on {asked.source}, found {trained.facts['data']}")
    label = torch.arange(pairs) % trained.spec.classes if trained.spec.classes else None
    made = simulate(trained, pairs, rng=seeded(asked.seed, 9), label=label)
    kept = pairs - int(pairs * asked.holdout)
    facts = {**trained.facts, "teacher": str(teacher), "teacher_hash": store.weights_hash(teacher), "pairs": kept}
    return Task(trained, made.take(slice(kept)), held_batches(made.take(slice(kept, None)), 256, 1024), facts)


def _tokenizer(asked: Asked, options: Options) -> Path | None:
    """The folder of the tokenizer, by the option of today or the older one."""
    new, old = asked.start.get(TOKENIZER), options.tokenizer
    if old is not None:
        print(f"--tokenizer {old}: is --from {TOKENIZER}={old} today")
    if None not in (new, old) and new != old:
        raise ConfigError(f"--from {TOKENIZER}: expected one, found {new} and, by --tokenizer, {old}")
    return new or old


def _create(asked: Asked, spec: ImageSpec, tokenizer: Path | None) -> Any:
    from nextmove.models.image.vqgan_prior import adopt

    system, kind = asked.system, spec_of(asked.system, asked.recipe)
    if kind is ImageSpec:
        if tokenizer is not None:
            raise ConfigError(f"--from {TOKENIZER}: {system} works on pixels; leave it out")
        return store.create(system, spec, asked.recipe)
    if tokenizer is None:
        raise ConfigError(f"--from {TOKENIZER}=FOLDER: {system} needs the run of a trained vqvae or vqgan")
    trained = store.load(tokenizer)
    prior = store.create(system, kind(spec, trained.card.recipe), asked.recipe)
    adopt(prior, trained)
    return prior
