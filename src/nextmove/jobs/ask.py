"""Asks a model that reads images."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove import store
from nextmove.config import ConfigError
from nextmove.contracts import seeded
from nextmove.data.image_fit import Fit, read_fitted
from nextmove.decoders.sampling import Sampling
from nextmove.folders import open_folder
from nextmove.jobs.chat import written
from nextmove.jobs.repeat import at_least
from nextmove.models.vision_language.asking import Seen
from nextmove.models.vision_language.reader import Reader


def load_reader(model: Path | str) -> Reader:
    """A saved model that reads images and answers, ours or one of transformers.

    Raises FileNotFoundError for a folder without one, and ConfigError for another kind of model or one without
    tokenizer.
    """
    saved = open_folder(model).expect("vision-language")
    found: Any = store.load(saved.folder) if saved.kind == "nextmove" else saved.foreign().model
    if not isinstance(found, Reader):
        raise ConfigError(
            f"{model}: expected a model that answers questions about images, found {saved.whose}; {saved.used_by}"
        )
    try:
        found.ends()
    except ValueError as problem:
        raise ConfigError(f"{model}: {problem}") from None
    return found


def read_images(paths: Sequence[Path | str], model: Reader, fit: Fit | None = None) -> Tensor:
    """Images (T, height, width, 3) uint8 at the size that the model reads, fitted as those that it was trained on.

    Raises DataError naming a file that is absent, empty or damaged.
    """
    size = model.spec.height, model.spec.width
    how: Fit = fit or model.facts.get("fit", "stretch")
    images = [torch.from_numpy(read_fitted(Path(path), size, how).copy()) for path in paths]
    return torch.stack(images) if images else torch.zeros(0, *size, 3, dtype=torch.uint8)


def ask(
    model: str | Path,
    asked: tuple[str | Path, ...],
    *,
    also: tuple[str, ...] = (),
    length: int = 64,
    fit: Fit | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    threads: int = 2,
) -> list[str]:
    """Asks a model about images; the answer is written as it comes about. Returns the answers.

    The images are read once for all questions.

    Args:
        model: A run's folder or a saved model that reads images.
        asked: Files of images, then the question; `<image>` in it marks the place of an image, else all stand in front
            of it. "" asks for a caption.
        also: Further questions about the same images.
        length: Tokens of an answer at most.
        fit: How images come to the model's size: stretch, crop or pad; default as it was trained.
        temperature: 0 takes the likeliest token.
        top_p: Keep the likeliest tokens of this total probability.
        seed: Decides the draws.
        threads: Threads of the arithmetic.

    Raises:
        FileNotFoundError: for a folder without a model.
        ConfigError: for another kind of model.
        DataError: for an image that cannot be read, naming it.
        ValueError: for another number of markers than of images, and for a text over the context.
    """
    at_least(1, length=length, threads=threads)
    if not asked:
        raise ConfigError("asked: expected images and a question, found nothing")
    torch.set_num_threads(threads)
    reader = load_reader(model)
    *images, question = asked
    if os.path.isfile(question):  # which takes questions of any length
        raise ConfigError(f"asked: expected a question behind the images, found the file {question}")
    if not images:
        print("no image: answered from words alone", file=sys.stderr)
    seen = Seen(reader, read_images(images, reader, fit))
    rng, sampling = seeded(seed, 6), Sampling(temperature, 0, top_p)
    return [written(seen.ask(str(text), new=length, rng=rng, sampling=sampling)) for text in (question, *also)]
