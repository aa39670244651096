"""Sizes that nothing can be built of are named as their option is, in place of an error deep inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError
from nextmove.contracts import Feature, Optim
from nextmove.decoders import Mixture
from nextmove.encoders.camera import Camera
from nextmove.encoders.part import chosen
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.pi0_fast import Pi0Fast
from nextmove.nn.block import Block
from nextmove.nn.mlp import Mlp
from nextmove.nn.stream import Stream
from nextmove.nn.unet1d import UNet1d
from nextmove.nn.vit import VisionTower

PICTURES = {"observation.images.top": Feature("image", (96, 96, 3))}


def fast() -> Any:
    recipe = Pi0Fast().seeing(PICTURES)
    return replace(recipe, actions=replace(recipe.actions, fast=10)).build(PolicySpec(PICTURES, 3, 10.0))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: VisionTower(patch=0), "patch: expected at least 1 px, found 0"),
        (lambda: Optim(batch=0), r"optim\.batch: expected at least 1, found 0"),
        (lambda: Stream([]), "layers: expected at least 1, found 0"),
        (lambda: Camera(keypoints=0).build(PICTURES), r"camera\.keypoints: expected at least 1, found 0"),
        (lambda: Camera(resize=(0, 0)).build(PICTURES), "resize: expected a height and width of at least 1"),
        (lambda: chosen(PICTURES, (*PICTURES, *PICTURES), "image", "camera"), "each input once, found 'observation"),
        (lambda: UNet1d(kernel=4), "kernel: expected an odd number of taps, found 4"),
        (lambda: UNet1d((0,)), r"widths: expected multiples of groups, 8, found \[0\]"),
        (lambda: UNet1d((64, 100)), r"widths: expected multiples of groups, 8, found \[64, 100\]"),
        (lambda: UNet1d((64,), groups=0), "groups: expected at least 1, found 0"),
        (lambda: UNet1d((24,), final_groups=16), "final_groups: expected a divisor of the first of widths, 24, found"),
        (lambda: Mixture(Mlp(), modes=0), "modes: expected at least 1, found 0"),
        (fast, r"actions\.fast: expected 512, the ids that decoder\.trunk\.vocabulary holds for it, found 10"),
    ],
)
def test_it_is_named(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_a_stream_of_a_block_is_one() -> None:
    assert len(Stream([Block(8, 2)]).blocks) == 1


def test_a_tokenizer_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"tokenizer\.json: expected a tokenizer of the library .*, found no text"):
        Tokenizer.open(tmp_path)
