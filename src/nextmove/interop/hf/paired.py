"""CLIP and SigLIP of a folder with what they read: how images are scaled, and the tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from nextmove.config import ConfigError
from nextmove.decoders.contrastive import Contrastive
from nextmove.encoders.pictures import SCALES, Values
from nextmove.interop.hf.pictures import FILE, read_pictures
from nextmove.interop.hf.reading import Read
from nextmove.interop.hf.words import read_tokenizer
from nextmove.models.vision_language.dual import Dual
from nextmove.models.vision_language.model import ImageTextModel
from nextmove.models.vision_language.spec import PairSpec
from nextmove.nn.dual import DualEncoderNet

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
        values=seen(folder, siglip)[1],
        fixed=siglip,
        mask=not siglip,
    )
    made.codec = read_tokenizer(folder, embedding.num_embeddings)
    if siglip:
        made.codec.pad = PADDING
    return made.eval()


def seen(folder: Path, siglip: bool) -> tuple[Literal["stretch", "crop"], Values]:
    """How images come to the model's size, and how they are scaled: as the folder says, else as its family does.

    Raises ConfigError for a way we do not have.
    """
    if not (folder / FILE).is_file():
        return ("stretch", "symmetric") if siglip else ("crop", "clip")
    found = read_pictures(folder)
    if found.filter != "bicubic" or found.square:
        raise ConfigError(f"{folder / FILE}: expected pictures resized by bicubic weights, not padded, found {found}")
    for name, (mean, std) in SCALES.items():
        if all(abs(a - b) < 1e-6 for a, b in zip((*mean, *std), (*found.mean, *found.std), strict=True)):
            return "stretch" if found.crop is None else "crop", name
    known = ", ".join(SCALES)
    raise ConfigError(f"{folder / FILE}: image_mean, image_std: expected those of {known}, found {found}")
