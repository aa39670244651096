"""CLIP and SigLIP of a folder with what they read: how images are scaled, and the tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nextmove.config import ConfigError, read_object
from nextmove.decoders.contrastive import Contrastive
from nextmove.encoders.pictures import SCALES, Values
from nextmove.interop.hf.reading import Read
from nextmove.interop.hf.words import read_tokenizer
from nextmove.models.vision_language.dual import Dual
from nextmove.models.vision_language.model import ImageTextModel
from nextmove.models.vision_language.spec import PairSpec
from nextmove.nn.dual import DualEncoderNet

PREPROCESSOR = "preprocessor_config.json"
PADDING = 1
"""SigLIP's texts are filled up with this id, which the text tower reads."""


def paired(read: Read, folder: Path) -> ImageTextModel:
    """The model of a folder that compares images and texts or writes captions, ready for images and texts.

    Raises ConfigError for a model of another kind, and for images scaled in a way we do not have.
    """
    net = read.model
    if isinstance(net, ImageTextModel):
        return net
    if not isinstance(net, DualEncoderNet):
        raise ConfigError(f"{folder}: expected a model of images and texts, found {type(net).__name__}")
    siglip, embedding = net.bias is not None, net.text.embedding
    size = net.image.config.image
    made = Dual(
        PairSpec(size, size, embedding.num_embeddings, net.text.length),
        net,
        Contrastive("sigmoid" if siglip else "softmax", most=float("inf") if siglip else 100.0, shared=False),
        values=scaling(folder, "symmetric" if siglip else "clip"),
        fixed=siglip,
        mask=not siglip,
    )
    made.codec = read_tokenizer(folder, embedding.num_embeddings)
    if siglip:
        made.codec.pad = PADDING
    return made.eval()


def fit(folder: Path, siglip: bool) -> str:
    """How images come to the model's size: as the folder says, else as its family does."""
    data = _preprocessor(folder)
    return "crop" if data.get("do_center_crop", not siglip) else "stretch"


def scaling(folder: Path, usual: Values) -> Values:
    """The name of the scaling that a folder's preprocessor has; raises ConfigError for one that has none."""
    data = _preprocessor(folder)
    found = tuple(tuple(data[key]) for key in ("image_mean", "image_std") if key in data)
    if len(found) < 2:
        return usual
    for name, (mean, std) in SCALES.items():
        if all(abs(a - b) < 1e-6 for a, b in zip((*mean, *std), (*found[0], *found[1]), strict=True)):
            return name
    known = ", ".join(SCALES)
    raise ConfigError(f"{folder / PREPROCESSOR}: image_mean, image_std: expected those of {known}, found {found}")


def _preprocessor(folder: Path) -> dict[str, Any]:
    path = folder / PREPROCESSOR
    return dict(read_object(path)) if path.is_file() else {}
