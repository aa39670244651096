"""Robot data sets in LeRobot's formats: read, write, check, and turn into training windows; images and texts.

Each name is imported when it is asked for: a training begins to read its data while PyTorch is imported (`ahead`).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from nextmove.host.lazy import lazy

if TYPE_CHECKING:
    from nextmove.data.dataset import Dataset, open_dataset
    from nextmove.data.encode import VideoCodec
    from nextmove.data.errors import DataError
    from nextmove.data.health import doctor
    from nextmove.data.images import Affine, Images, ImageSet, images
    from nextmove.data.loader import Augment, Loader, Source
    from nextmove.data.record import record
    from nextmove.data.stats import exact_stats
    from nextmove.data.suspects import Finding
    from nextmove.data.windows import Windows
    from nextmove.data.writer import DatasetWriter

__all__ = [
    "Affine",
    "Augment",
    "DataError",
    "Dataset",
    "DatasetWriter",
    "Finding",
    "ImageSet",
    "Images",
    "Loader",
    "Source",
    "VideoCodec",
    "Windows",
    "doctor",
    "exact_stats",
    "images",
    "open_dataset",
    "record",
]

_names = lazy(
    __name__,
    {
        "Affine": "images",
        "Augment": "loader",
        "DataError": "errors",
        "Dataset": "dataset",
        "DatasetWriter": "writer",
        "Finding": "suspects",
        "ImageSet": "images",
        "Images": "images",
        "Loader": "loader",
        "Source": "loader",
        "VideoCodec": "encode",
        "Windows": "windows",
        "doctor": "health",
        "exact_stats": "stats",
        "images": "images",
        "open_dataset": "dataset",
        "record": "record",
    },
)


def __getattr__(name: str) -> Any:
    """`pictures` is how `images` was called."""
    if name != "pictures":
        return _names(name)
    warnings.warn("data.pictures is called data.images", DeprecationWarning, stacklevel=2)
    return _names("images")
