"""Images to features, one vector a camera and step.

Shapes: B batch, T observation steps, K keypoints, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.contracts import Feature, Numbers, Rng, uniform
from nextmove.encoders.part import chosen, present
from nextmove.nn.resnet import ResNet, SpatialSoftmax

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's images, values in [0, 1] (the numbers that published backbones were trained with)."""

STRIDE = 32
"""Pixels that one value of the last feature maps stands for, along each side."""


@dataclass(frozen=True)
class Camera:
    """Which cameras are read, and by what network (Chi et al. 2023: ResNet-18 with group norm, spatial softmax)."""

    features: tuple[str, ...] = ()
    """Names; none: all cameras in file order."""
    resize: tuple[int, int] | None = None
    """Height and width of the image, px, bilinear; none: as it comes."""
    crop: tuple[int, int] | None = None
    """Height and width of the part that is read, px: anywhere in training, the middle else; none: all of it."""
    backbone: ResNet = ResNet()
    pool: Literal["keypoints", "average"] = "keypoints"
    keypoints: int = 32
    shared: bool = False
    """One network for all cameras, in place of one for each."""

    def build(self, inputs: Mapping[str, Feature]) -> CameraEncoder:
        """The part; raises ValueError naming a camera that is absent, not in colour, or smaller than the crop."""
        found = chosen(inputs, self.features, "image", "camera")
        for name, feature in found.items():
            if feature.width != 3:
                raise ValueError(f"camera: {name}: expected (height, width, 3), found {feature.shape}")
            size = self.resize or feature.shape[:2]
            if self.crop and (self.crop[0] > size[0] or self.crop[1] > size[1]):
                raise ValueError(f"camera: {name}: expected a crop of at most {tuple(size)}, found {self.crop}")
            if self.pool == "keypoints" and min(self.crop or size) <= STRIDE:
                raise ValueError(
                    f"camera: {name}: expected more than {STRIDE} x {STRIDE} px for keypoints, found "
                    f"{tuple(self.crop or size)}: in maps of one value they stand still; resize, or pool average"
                )
        return CameraEncoder(self, found, self.network)

    def network(self) -> nn.Module:
        """A camera's network: images (N, 3, height, width) -> (N, W)."""
        backbone = self.backbone.build()
        if self.pool == "average":
            return nn.Sequential(backbone, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        width = 2 * self.keypoints
        return nn.Sequential(backbone, SpatialSoftmax(backbone.out, self.keypoints), nn.Linear(width, width), nn.ReLU())


class CameraEncoder(nn.Module):
    """Images (B, T, height, width, 3) uint8 by name -> (B, steps, W), 2 K numbers a camera (average: 512)."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: Camera, cameras: Mapping[str, Feature], network: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.config, self.cameras, self.inputs = config, dict(cameras), dict(cameras)
        self.networks = nn.ModuleList(network() for _ in range(1 if config.shared else len(cameras)))
        self.out = 2 * config.keypoints if config.pool == "keypoints" else 512
        self.width = self.out * len(cameras)
        self.register_buffer("mean", torch.tensor(MEAN), persistent=False)
        self.register_buffer("std", torch.tensor(STD), persistent=False)

    def fit(self, numbers: Numbers, steps: int) -> None:
        """Nothing: images are scaled by fixed numbers."""

    def forward(self, inputs: Mapping[str, Any], *, batch: int, steps: int, rng: Rng | None = None) -> Tensor:
        """(B, steps, W); with `rng` (training) crops are drawn, the same for all steps of a row.

        Raises ValueError naming a camera that is absent or of another size.
        """
        there, found = present(inputs, self.inputs), []
        for i, (name, feature) in enumerate(self.cameras.items()):
            if name not in there:
                found.append(self.mean.new_zeros(batch, steps, self.out))
                continue
            image = inputs[name][:, -steps:]
            if tuple(image.shape[2:]) != feature.shape:
                raise ValueError(f"{name}: expected images {feature.shape}, found {tuple(image.shape[2:])}")
            network = self.networks[0 if self.config.shared else i]
            found.append(network(self.prepared(image, rng), *self.conditions(inputs, batch, steps)))
        return torch.cat([features.reshape(batch, steps, -1) for features in found], -1)

    def conditions(self, inputs: Mapping[str, Any], batch: int, steps: int) -> tuple[Tensor, ...]:
        """What the networks read beside the images, (B steps, ...): nothing here."""
        return ()

    def prepared(self, image: Tensor, rng: Rng | None) -> Tensor:
        """Images (B, T, height, width, 3) scaled and cropped, (B T, 3, height, width)."""
        batch, steps = image.shape[:2]
        x = image.flatten(0, 1).to(self.mean) / 255
        x = ((x - self.mean) / self.std).permute(0, 3, 1, 2)
        if self.config.resize and tuple(x.shape[-2:]) != self.config.resize:
            x = F.interpolate(x, self.config.resize, mode="bilinear", antialias=True)
        if self.config.crop is None:
            return x
        height, width = self.config.crop
        room = torch.tensor([x.shape[-2] - height, x.shape[-1] - width])
        place = room // 2 * torch.ones(batch, 2, dtype=torch.long)
        if rng is not None:
            place = (uniform((batch, 2), rng) * (room + 1)).long().clamp(max=room)
        down = place[:, :1].repeat_interleave(steps, 0).to(x.device) + torch.arange(height, device=x.device)
        across = place[:, 1:].repeat_interleave(steps, 0).to(x.device) + torch.arange(width, device=x.device)
        rows = torch.arange(len(x), device=x.device)[:, None, None]
        return x[rows, :, down[:, :, None], across[:, None, :]].permute(0, 3, 1, 2)
