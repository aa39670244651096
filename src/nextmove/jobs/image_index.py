"""Vectors of a folder's images by one model, kept so that only images that are new or have changed are looked at again.

Shapes: N images, C width of the space.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nextmove import weights
from nextmove.config import ConfigError
from nextmove.data.image_store import Wanted, stored_images
from nextmove.data.tables import Array
from nextmove.evaluation.progress import counted_bar
from nextmove.jobs.sighted import Sighted, in_batches, pictures_in

FACTS = "index"
"""Key of the file's metadata."""


@dataclass(frozen=True)
class Index:
    """Unit vectors (N, C) of images, their pixels (N, height, width, 3) uint8, and their names in the folder."""

    vectors: Tensor
    pixels: Array
    names: tuple[str, ...]
    path: Path
    read: int
    """Images that were looked at, the others being known."""
    broken: dict[str, str]
    """Files that are no images, and why."""


def indexed(sighted: Sighted, folder: Path | str, path: Path | None = None) -> Index:
    """The index of a folder's images, as it lies there as far as images and model are the same.

    path: its file, by default beside the decoded images, another one for each model. Raises DataError for a folder
    without images, and ConfigError for a file at `path` that is another model's or no index.
    """
    folder, size = Path(folder), (sighted.model.spec.height, sighted.model.spec.width)
    names = tuple(str(file.relative_to(folder)) for file in pictures_in(folder))
    store = stored_images(Wanted(folder, names, size, sighted.fit), bar=counted_bar("images decoded"))  # type: ignore[arg-type]
    own = store.path.parent / f"search-{sighted.hash}.safetensors"
    kept = _known(path or own, sighted.hash, given=path is not None)
    good = [i for i, one in enumerate(store.known) if not one.broken]
    hashes = [store.known[i].hash for i in good]
    new = [i for i, hash in zip(good, hashes, strict=True) if hash not in kept]
    with counted_bar("images looked at")(len(new)) as move:
        for part in in_batches(new):
            pixels = torch.from_numpy(store.frames(np.array(part)))
            for i, vector in zip(part, sighted.model.embed_images(pixels), strict=True):
                kept[store.known[i].hash] = vector.cpu()
            move(len(part))
    vectors = torch.stack([kept[hash] for hash in hashes]) if good else torch.zeros(0, 1)
    if new or not (path or own).is_file():
        facts = {"model": sighted.hash, "hashes": hashes}
        weights.write(path or own, {"vectors": vectors}, {FACTS: json.dumps(facts)})
    frames = store.frames(np.array(good, np.int64))
    return Index(vectors, frames, tuple(names[i] for i in good), path or own, len(new), store.broken)


def _known(path: Path, model: str, *, given: bool) -> dict[str, Tensor]:
    """Vectors by the hash of their image; none where there is no such file."""
    if not path.is_file():
        return {}
    try:
        found, facts = weights.read(path)["vectors"], json.loads(_metadata(path))
        hashes, made = list(facts["hashes"]), str(facts["model"])
        if len(hashes) != len(found):
            raise ValueError(f"expected {len(hashes)} vectors, found {len(found)}")
    except (ValueError, KeyError, TypeError) as problem:
        if given:
            raise ConfigError(f"{path}: expected an index of images, found another file ({problem})") from None
        print(f"{path}: not a whole index ({problem}); making it anew")
        return {}
    if made != model:
        raise ConfigError(
            f"{path}: expected an index by this model, hash {model}, found one by the model of hash {made}; name "
            "another file, or leave out --index"
        )
    return dict(zip(hashes, found.unbind(), strict=True))


def _metadata(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return str((file.metadata() or {}).get(FACTS))
