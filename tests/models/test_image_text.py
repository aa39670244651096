"""What models of images and texts have in common: images scaled, texts as ids, and the spec they are built for."""

from __future__ import annotations

import pytest
import torch

from nextmove.codecs.byte_level import byte_tokenizer
from nextmove.models.vision_language.model import ImageTextModel
from nextmove.models.vision_language.spec import PairSpec


def model(**fields: int) -> ImageTextModel:
    codec = byte_tokenizer()
    made = ImageTextModel(PairSpec(8, 8, codec.classes, fields.get("length", 12), codec.hash), values="symmetric")
    made.codec.adopt(codec)
    made.weight = torch.nn.Parameter(torch.zeros(1))
    return made


def test_images_are_resized_and_scaled_row_by_row() -> None:
    images = torch.full((2, 3, 16, 16, 3), 255, dtype=torch.uint8)
    images[1] = 0
    pixels = model().pixels(images)
    assert pixels.shape == (6, 3, 8, 8)
    assert torch.allclose(pixels[:3], torch.ones(3, 3, 8, 8))
    assert torch.allclose(pixels[3:], -torch.ones(3, 3, 8, 8))
    with pytest.raises(ValueError, match=r"images: expected \(B, N, height, width, 3\), found \(2, 16, 16, 3\)"):
        model().pixels(images[:, 0])


def test_texts_are_padded_and_one_that_is_too_long_is_an_error() -> None:
    ids, mask = model().ids(["ab", "abcd"])
    assert ids.shape == (2, 6)
    assert mask.sum(1).tolist() == [4, 6]
    assert model().ids(["ab"], fixed=True).ids.shape == (1, 12)
    with pytest.raises(ValueError, match="at most 4 ids, found 6"):
        model(length=4).ids(["abcd"])


def test_a_spec_says_which_field_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"spec.classes: expected at least 1, found 0"):
        PairSpec(8, 8, 0, 4)
