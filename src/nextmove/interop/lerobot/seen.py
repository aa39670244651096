"""What LeRobot's policies look at: states and cameras as parts of our encoder, and the names of their tensors.

Shapes: H, W height and width of feature maps.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nextmove.codecs import Scaled
from nextmove.codecs.joined import Joined
from nextmove.contracts import Feature
from nextmove.encoders import Camera, ObservationEncoder, Plain, StateEncoder
from nextmove.encoders.camera import CameraEncoder, TokenCameraEncoder
from nextmove.encoders.pictures import Pictures
from nextmove.interop.lerobot.config import ENV, STATE, ActConfig, DiffusionConfig, Roles
from nextmove.interop.weights import renamed
from nextmove.nn.resnet import ResNet

GRID = "pool.pos_grid"
"""Places of feature maps, a fixed table that LeRobot stores with each camera's network."""
_CHILDREN = {"conv1": "0", "bn1": "1", **{f"layer{i}": str(3 + i) for i in (1, 2, 3, 4)}}
"""Parts of the network of images by their numbers among torchvision's."""


def camera(config: ActConfig | DiffusionConfig) -> Camera:
    """How a policy looks at images."""
    if isinstance(config, ActConfig):
        backbone = ResNet(config.layers, "frozen", bool(config.replace_final_stride_with_dilation))
        return Camera(backbone=backbone, pool="tokens", width=config.dim_model, shared=True)
    return Camera(
        resize=config.resize_shape,
        whole=False,
        crop=config.crop,
        backbone=ResNet(config.layers, "group" if config.use_group_norm else "batch"),
        keypoints=config.spatial_softmax_num_keypoints,
        shared=not config.use_separate_rgb_encoder_per_camera,
    )


def features(part: Roles) -> dict[str, Feature]:
    """What is read, by the names the policy knows: the state first, whatever the file's order."""
    states = {STATE: part.state, **({ENV: part.env} if part.env else {})}
    images = {name: Feature("image", (*size, 3)) for name, size in part.cameras.items()}
    return {name: Feature("state", (width,)) for name, width in states.items()} | images


def encoder(
    config: ActConfig | DiffusionConfig, part: Roles, scales: Mapping[str, Scaled], steps: int
) -> ObservationEncoder:
    """The untrained encoder: states, and cameras between them where they share a vector."""
    inputs = features(part)
    states, images = ([n for n, f in inputs.items() if f.type == kind] for kind in ("state", "image"))
    looking = camera(config)
    # A vector holds at each step the state, what the cameras show, and the environment's state.
    groups = [[name] for name in states] if images and looking.pool != "tokens" else [states]
    built: list[nn.Module] = [
        StateEncoder(Plain(), Joined([scales[n] for n in names]), {n: inputs[n] for n in names}) for names in groups
    ]
    if images:
        kind = TokenCameraEncoder if looking.pool == "tokens" else CameraEncoder
        cameras = kind(looking, {name: inputs[name] for name in images}, looking.network)
        cameras.pictures = nn.ModuleList(_pictures(looking, scales[name]) for name in images)
        built.insert(1, cameras)
    return ObservationEncoder(built, steps=steps)


def _pictures(looking: Camera, scale: Scaled) -> Pictures:
    """What a camera's images pass: resized as floating numbers, scaled by the checkpoint's statistics."""
    pictures: Pictures = looking.pictures()
    pictures.mean, pictures.std = scale.shift - scale.offset * scale.scale, scale.scale.clone()
    return pictures


def name(config: ActConfig | DiffusionConfig, own: str) -> str | None:
    """A tensor of the encoder under LeRobot's name, None for scales."""
    parts = own.split(".")
    if parts[2] != "networks":
        return None
    number, layer, rest = parts[3], parts[4], ".".join(parts[5:])
    if isinstance(config, ActConfig):
        return f"model.backbone.{rest}" if layer == "0" else f"model.encoder_img_feat_input_proj.{parts[-1]}"
    if layer == "0":
        inside = f"backbone.{renamed(rest, _CHILDREN)}"
    else:
        inside = f"pool.nets.{parts[-1]}" if layer == "1" else f"out.{parts[-1]}"
    return f"{_network(config, int(number))}.{inside}"


def _network(config: DiffusionConfig, number: int) -> str:
    return "diffusion.rgb_encoder" + (f".{number}" if config.use_separate_rgb_encoder_per_camera else "")


def grids(config: ActConfig | DiffusionConfig, part: Roles) -> dict[str, Tensor]:
    """The fixed tables (H W, 2) of places x, y in [-1, 1] by LeRobot's names."""
    if isinstance(config, ActConfig) or not part.cameras:
        return {}
    size = config.crop or config.resize_shape or next(iter(part.cameras.values()))
    rows, columns = (torch.linspace(-1, 1, -(-side // 32)) for side in size)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    table = torch.stack([x, y], -1).flatten(0, 1)
    count = len(part.cameras) if config.use_separate_rgb_encoder_per_camera else 1
    # Each its own: what is shared is written under one name only.
    return {f"{_network(config, i)}.{GRID}": table.clone() for i in range(count)}
