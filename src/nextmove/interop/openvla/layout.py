"""Which of OpenVLA's tensors is which of ours, in transformers' names and in Prismatic's own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor

from nextmove.interop.hf.family import Family
from nextmove.interop.hf.joined import Part
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.interop.openvla import towers
from nextmove.interop.weights import renamed
from nextmove.nn.vit import VisionTower

FEATURIZERS = ("featurizer", "fused_featurizer")
"""Names of the image towers, in order."""
PROJECTOR = {f"maps.{i}": f"fc{i + 1}" for i in range(3)}
SPELLINGS = (
    (r"^module\.", ""),
    (r"^(llm_backbone\.)?llm\.", "language_model."),
    (r"^language_model\.model\.", "language_model."),
    (r"^projector\.(projector\.)?([024])\.", lambda found: f"projector.fc{int(found[2]) // 2 + 1}."),
    (r"^vision_backbone\.", ""),
    (r"^vision_backbone\.", ""),
    (r"^dino_featurizer\.", "featurizer."),
    (r"^siglip_featurizer\.", "fused_featurizer."),
    (r"^(\w*featurizer\.blocks\.\d+)\.block\.", r"\1."),
    (r"\.(ls\d)\.gamma$", r".\1.scale_factor"),
)
"""Names as they may be written -> names by parts; the last but one is of towers that words scale and shift."""


def canonical(name: str) -> str:
    """One name for the spellings of transformers, of Prismatic and of fine-tuned towers."""
    for pattern, written in SPELLINGS:
        name = re.sub(pattern, written, name)
    return name


def parts(family: Family, networks: Sequence[VisionTower]) -> tuple[Part, ...]:
    """Where the tensors of a policy's encoder are."""
    return (
        Part(
            "language_model", "encoder.language", family.foreign, lambda c: family.pack(c, family.config)
        ),
        *(
            Part(name, f"encoder.towers.{i}", towers.tower(network).foreign, partial(_tower, network=network))
            for i, (name, network) in enumerate(zip(FEATURIZERS, networks, strict=False))
        ),
        Part("projector", "encoder.bridge", lambda name: renamed(name, PROJECTOR)),
    )  # fmt: skip


def described(tensors: Mapping[str, Tensor], sizes: Sequence[towers.Sizes], image: int, film: int) -> list[VisionTower]:
    """The towers of a file's tensors; raises ConfigError for one that is missing.

    film: width of the words that scale and shift, 0 = they do not.
    """
    names = {canonical(name): value for name, value in tensors.items()}
    return [
        towers.described(names, f"{name}.", own, image, film) for name, own in zip(FEATURIZERS, sizes, strict=False)
    ]


def _tower(checkpoint: Checkpoint, *, network: VisionTower) -> None:
    towers.pack(checkpoint, network)
