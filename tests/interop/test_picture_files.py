"""preprocessor_config.json of published towers, old and new, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nextmove.config import ConfigError
from nextmove.encoders.pictures import SCALES
from nextmove.encoders.prepared import Prepared
from nextmove.interop.hf.pictures import FILE, read_pictures

CLIP = {"crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3, "size": 224,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711]}  # fmt: skip
LATER = {**CLIP, "crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 224}, "do_rescale": True,
         "rescale_factor": 1 / 255, "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True}  # fmt: skip
SIGLIP = {"do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
          "image_processor_type": "SiglipImageProcessor", "processor_class": "SiglipProcessor", "resample": 3,
          "rescale_factor": 1 / 255, "size": {"height": 384, "width": 384}}  # fmt: skip
VIT = {"do_normalize": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 224,
       "feature_extractor_type": "ViTFeatureExtractor"}  # fmt: skip
DINO = {"crop_size": {"height": 224, "width": 224}, "do_center_crop": True, "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225], "image_processor_type": "BitImageProcessor", "resample": 3,
        "size": {"shortest_edge": 256}, "do_convert_rgb": True}  # fmt: skip
BLIP = {"do_normalize": True, "image_processor_type": "BlipImageProcessor", "size": {"height": 384, "width": 384}}


def read(folder: Path, data: dict[str, Any]) -> Prepared:
    (folder / FILE).write_text(json.dumps(data))
    return read_pictures(folder)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (CLIP, Prepared.clip()), (LATER, Prepared.clip()), (SIGLIP, Prepared.stretched(384)),
        (VIT, Prepared.stretched(224, filter="bilinear")), (DINO, Prepared.dinov2()),
        (BLIP, Prepared.stretched(384, "clip")),
        ({**SIGLIP, "do_resize": False}, Prepared(size=None, crop=None, mean=SCALES["symmetric"][0], std=(0.5,) * 3)),
        ({**CLIP, "do_pad": True}, Prepared(square=True)),
    ],
)  # fmt: skip
def test_published_files(data: dict[str, Any], expected: Prepared, tmp_path: Path) -> None:
    assert read(tmp_path, data) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_flip": True}, "unknown key 'do_flip', did you mean"),
        ({"resample": 9}, "resample: expected Pillow's number 0 to 5, found 9"),
        ({"size": {"longest_edge": 2048}}, "size: expected shortest_edge, or height and width, found"),
        ({"image_mean": 0.5}, "image_mean: expected three numbers, found 0.5"),
    ],
)
def test_what_is_not_known_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, {**CLIP, **change})
    with pytest.raises(FileNotFoundError, match=FILE):
        read_pictures(tmp_path / "nowhere")
