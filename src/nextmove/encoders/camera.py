"""Images to features: one vector a camera and step, or a token for each place of the last feature maps.

Shapes: B batch, T observation steps, K keypoints, S tokens, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nextmove.contracts import Feature, Numbers, Rng
from nextmove.encoders.part import chosen, present
from nextmove.encoders.pictures import Jitter, Pictures, Values
from nextmove.nn.efficientnet import EfficientNet, EfficientNetLite
from nextmove.nn.embedding import grid, table
from nextmove.nn.resnet import MapTokens, ResNet, SpatialSoftmax
from nextmove.nn.small_resnet import SmallResNet
from nextmove.nn.token_learner import TokenLearner
from nextmove.nn.vit import Vit


@dataclass(frozen=True)
class Camera:
    """Which cameras are read, and by what network (Chi et al. 2023: ResNet-18 with group norm, spatial softmax)."""

    features: tuple[str, ...] = ()
    """Names; none: all cameras in file order."""
    resize: tuple[int, int] | None = None
    """Height and width of the image, px, bilinear; none: as it comes."""
    whole: bool = True
    """Resize bytes to whole levels, at which frames are kept; off, to any number, as LeRobot does."""
    crop: tuple[int, int] | None = None
    """Height and width of the part that is read, px: anywhere in training, the middle else; none: all of it."""
    averaged: bool = True
    """Resizing to fewer pixels takes the mean of all that it joins; off, of the nearest four alone, as RT-1 does."""
    backbone: ResNet | SmallResNet | Vit | EfficientNetLite | EfficientNet = ResNet()
    pool: Literal["keypoints", "average", "tokens", "learned"] = "keypoints"
    """What becomes of the last feature maps: places of keypoints or means, one vector a step; a token for each of their
    places, which a network that reads tokens with positions attends to (ACT); or a few learned ones (RT-1)."""
    keypoints: int = 32
    learned: int = 8
    """Learned tokens of an image."""
    width: int = 512
    """Of tokens; the width of the network that reads them."""
    shared: bool = False
    """One network for all cameras, in place of one for each."""
    jitter: Jitter = Jitter()
    """Changes of colour in training."""
    values: Values = "imagenet"
    """How values are scaled: by ImageNet's mean and deviation, to -1 to 1, as EfficientNet-Lite reads them, or 0 to 1.
    """

    def build(self, inputs: Mapping[str, Feature]) -> CameraEncoder:
        """The part; raises ValueError naming a camera that is absent, not in colour, or smaller than the crop."""
        found = chosen(inputs, self.features, "image", "camera")
        if self.pool == "keypoints" and self.keypoints < 1:
            raise ValueError(f"camera.keypoints: expected at least 1, found {self.keypoints}")
        if self.whole and not self.averaged:
            raise ValueError("camera.averaged: expected true for whole levels, at which frames are kept, found false")
        if self.pool == "tokens" and getattr(self.backbone, "padding", "same") != "same":
            raise ValueError("camera.backbone.padding: expected 'same' where each place is a token, found another")
        for name, feature in found.items():
            if feature.width != 3:
                raise ValueError(f"camera: {name}: expected (height, width, 3), found {feature.shape}")
            size = self.resize or feature.shape[:2]
            if min(size) < 1:
                raise ValueError(f"camera: {name}: resize: expected a height and width of at least 1, found {size}")
            if self.crop and (self.crop[0] > size[0] or self.crop[1] > size[1]):
                raise ValueError(f"camera: {name}: expected a crop of at most {tuple(size)}, found {self.crop}")
            stride = self.backbone.stride
            if self.pool == "keypoints" and min(self.crop or size) <= stride:
                raise ValueError(
                    f"camera: {name}: expected more than {stride} x {stride} px for keypoints, found "
                    f"{tuple(self.crop or size)}: in maps of one value they stand still; resize, or pool average"
                )
        if self.pool == "learned":
            from nextmove.encoders.learned_tokens import LearnedTokenEncoder

            return LearnedTokenEncoder(self, found, self.network)
        kind = TokenCameraEncoder if self.pool == "tokens" else CameraEncoder
        return kind(self, found, self.network)

    def network(self) -> nn.Module:
        """A camera's network: images (N, 3, height, width) -> (N, W), or (N, places, W) with tokens."""
        backbone = self.backbone.build()
        if self.pool == "tokens":
            return nn.Sequential(backbone, MapTokens(backbone.out, self.width))
        if self.pool == "learned":
            project = nn.Conv2d(backbone.out, self.width, 1, bias=False)
            return nn.Sequential(backbone, project, TokenLearner(self.width, self.learned))
        if self.pool == "average":
            return nn.Sequential(backbone, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        width = 2 * self.keypoints
        return nn.Sequential(backbone, SpatialSoftmax(backbone.out, self.keypoints), nn.Linear(width, width), nn.ReLU())

    def pictures(self) -> Pictures:
        """What a camera's images pass before its network."""
        return Pictures(
            resize=self.resize, crop=self.crop, jitter=self.jitter, values=self.values, whole=self.whole,
            averaged=self.averaged,
        )  # fmt: skip


class CameraEncoder(nn.Module):
    """Images (B, T, height, width, 3) by name -> (B, steps, W), 2 K numbers a camera (average: 512)."""

    def __init__(self, config: Camera, cameras: Mapping[str, Feature], network: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.config, self.cameras, self.inputs = config, dict(cameras), dict(cameras)
        self.pictures = nn.ModuleList(config.pictures() for _ in cameras)
        self.networks = nn.ModuleList(network() for _ in range(1 if config.shared else len(cameras)))
        widths = {"keypoints": 2 * config.keypoints, "average": config.backbone.out}
        self.out = widths.get(config.pool, config.width)
        self.width = self.out * (len(cameras) if config.pool in widths else 1)

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Height and width that each camera's frames are kept at: what they are brought to, or come in already."""
        own = {name: feature.shape for name, feature in self.cameras.items()}
        resize = self.config.resize if self.config.whole else None
        return {name: resize or (shape[0], shape[1]) for name, shape in own.items()}

    @property
    def whole(self) -> bool:
        """Whether resized images have whole levels, as they are kept."""
        return all(part.whole for part in self.pictures)

    def fit(self, numbers: Numbers, steps: int) -> None:
        """Nothing: images are scaled by fixed numbers."""

    def forward(self, inputs: Mapping[str, Any], *, batch: int, steps: int, rng: Rng | None = None) -> Tensor:
        """(B, steps, W); with `rng` (training) crops and colours are drawn, the same for all steps of a row.

        Raises ValueError naming a camera that is absent or of another size.
        """
        there, found = present(inputs, self.inputs), []
        for i, name in enumerate(self.cameras):
            if name in there:
                found.append(self.seen(i, inputs, batch, steps, rng))
            else:
                found.append(next(self.parameters()).new_zeros(batch, steps, self.out))
        return torch.cat([features.reshape(batch, steps, -1) for features in found], -1)

    def seen(self, i: int, inputs: Mapping[str, Any], batch: int, steps: int, rng: Rng | None) -> Tensor:
        """What camera number i shows, (B steps, ...)."""
        name, image = list(self.cameras)[i], inputs[list(self.cameras)[i]][:, -steps:]
        shape, resize = self.cameras[name].shape, self.config.resize
        # Frames that are kept at the size they are read at need no more resizing.
        if tuple(image.shape[2:]) not in (shape, (*(resize or shape[:2]), shape[2])):
            raise ValueError(f"{name}: expected images {shape}, found {tuple(image.shape[2:])}")
        network = self.networks[0 if self.config.shared else i]
        shown: Tensor = network(self.pictures[i](image, rng), *self.conditions(inputs, batch, steps, rng))
        return shown

    def conditions(self, inputs: Mapping[str, Any], batch: int, steps: int, rng: Rng | None) -> tuple[Tensor, ...]:
        """What the networks read beside the images, (B steps, ...): nothing here."""
        return ()


class TokenCameraEncoder(CameraEncoder):
    """Images (B, T, height, width, 3) by name -> tokens (B, S, W) with positions (S, W), camera after camera.

    Of each camera the steps from the oldest on, of each step the places of its maps row by row. A place has the same
    position in every camera (`nn.embedding.grid`); steps before the latest add a row of `table` that tells how long ago
    they are. ACT has one step (Zhao et al. 2023).
    """

    def __init__(self, config: Camera, cameras: Mapping[str, Feature], network: Callable[[], nn.Module]) -> None:
        super().__init__(config, cameras, network)
        self.width, self.places = config.width, []
        for i, (feature, pictures) in enumerate(zip(cameras.values(), self.pictures, strict=True)):
            height, width = pictures.size(*feature.shape[:2])  # type: ignore[operator]
            places = (-(-height // config.backbone.stride), -(-width // config.backbone.stride))
            self.places.append(places)
            self.register_buffer(f"position{i}", grid(*places, config.width), persistent=False)

    def count(self, steps: int) -> int:
        """Tokens S of this many steps."""
        return steps * sum(rows * columns for rows, columns in self.places)

    def positions(self, steps: int) -> Tensor:
        """(S, W)."""
        ago = table(steps, self.width).flip(0)
        found = []
        for i in range(len(self.cameras)):
            own = getattr(self, f"position{i}")
            found += [own + (row.to(own) if k < steps - 1 else 0) for k, row in enumerate(ago)]
        return torch.cat(found)

    def forward(self, inputs: Mapping[str, Any], *, batch: int, steps: int, rng: Rng | None = None) -> Tensor:
        """Tokens (B, S, W); those of an optional camera that is absent are zeros. Raises ValueError as the other."""
        there, found = present(inputs, self.inputs), []
        for i, (name, (rows, columns)) in enumerate(zip(self.cameras, self.places, strict=True)):
            count = steps * rows * columns
            if name in there:
                found.append(self.seen(i, inputs, batch, steps, rng).reshape(batch, count, self.width))
            else:
                found.append(next(self.parameters()).new_zeros(batch, count, self.width))
        return torch.cat(found, 1)
