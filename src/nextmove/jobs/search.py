"""Finds the images of a folder that a text describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nextmove.config import ConfigError
from nextmove.evaluation.found_page import Found, write_found
from nextmove.jobs.image_index import indexed
from nextmove.jobs.repeat import Call, at_least, repeatable, writable_dir
from nextmove.jobs.sighted import load_sighted


@repeatable
def search(
    call: Call,
    model: str | Path,
    folder: str | Path,
    text: str,
    *,
    n: int = 12,
    out: str | Path | None = None,
    index: str | Path | None = None,
    threads: int = 2,
) -> list[dict[str, Any]]:
    """Finds the images of a folder that a text describes best; writes a page and a picture of them.

    What the model says of the images is kept as an index: only images that are new or have changed are looked at again.
    Returns the images found, the best first: `image` and `score`, cosines in -1 to 1.

    Args:
        model: A run's folder, a saved clip, siglip or blip, or a folder of transformers with one.
        folder: Images, in subfolders too.
        text: What is looked for.
        n: Images to show.
        out: Folder for search.html, search.png and search.json; default MODEL/search.
        index: File of the index; default beside the decoded images, another for each model.
        threads: Threads of the arithmetic.

    Raises:
        FileNotFoundError: for a folder without a model.
        ConfigError: for a model that does not compare images and texts, an index that is another model's, and no text.
        DataError: for a folder without images.
    """
    at_least(1, n=n, threads=threads)
    if not text.strip():
        raise ConfigError(f"text: expected what is looked for, found {text!r}")
    torch.set_num_threads(threads)
    out = writable_dir(Path(out) if out else Path(model) / "search")
    sighted = load_sighted(model).able("compares images and texts", "embed_images")
    known = indexed(sighted, folder, None if index is None else Path(index))
    print(f"{known.path}: {len(known.names)} images, {known.read} of them looked at now")
    if known.broken:
        first = next(iter(known.broken.values()))
        print(f"{folder}: {len(known.broken)} files are passed over, such as: {first}")
    scores = (known.vectors @ sighted.model.embed_texts([text]).cpu().mT)[:, 0]
    best = scores.topk(min(n, len(scores)))
    found = [
        Found(known.names[i], float(score), known.pixels[i])
        for score, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    again = call.command("n", name="search")
    write_found(found, out, text=text, folder=str(folder), model=sighted.whose, images=len(scores), commands=[again])
    for one in found:
        print(f"{one.score:.3f}  {one.name}")
    print(f"open {out / 'search.html'}")
    return [{"image": one.name, "score": one.score} for one in found]
