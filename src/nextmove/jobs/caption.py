"""Says what images show."""

from __future__ import annotations

from pathlib import Path

import torch

from nextmove.config import ConfigError
from nextmove.jobs.repeat import at_least
from nextmove.jobs.sighted import in_batches, load_sighted


def caption(
    model: str | Path,
    images: tuple[str | Path, ...],
    *,
    beams: int = 3,
    prompt: str | None = None,
    length: int = 0,
    threads: int = 2,
) -> list[str]:
    """Writes a caption of each image, prints them and returns them.

    Args:
        model: A run's folder, a saved blip, or a folder of transformers with one for captions.
        images: Files.
        beams: Beginnings that are kept of each caption; 1 takes the likeliest word each time.
        prompt: What captions begin with; default as the model was trained.
        length: Most tokens of a caption; 0 as many as fit.
        threads: Threads of the arithmetic.

    Raises:
        FileNotFoundError: for a folder without a model.
        ConfigError: for a model that writes no captions, and for no image.
        DataError: for a file that is no image, naming it.
    """
    at_least(1, beams=beams, threads=threads)
    at_least(0, length=length)
    if not images:
        raise ConfigError("images: expected files of images behind the model, found none")
    torch.set_num_threads(threads)
    sighted = load_sighted(model).able("writes captions", "caption")
    made: list[str] = []
    for part in in_batches(images):
        pixels = torch.stack([sighted.picture(Path(path)) for path in part])
        said = sighted.model.caption(pixels, beams=beams, prompt=prompt, new=length)
        for path, text in zip(part, said, strict=True):
            print(f"{path}: {text}")
        made += said
    return made
