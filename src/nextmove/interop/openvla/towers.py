"""Image towers under timm's names: DINOv2's with registers and SigLIP's, as OpenVLA's files have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from nextmove.config import ConfigError
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.interop.hf.tower import Tower
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm
from nextmove.nn.vit import VisionTower

NAMES = {
    "embed": "patch_embed.proj",
    "class_token": "cls_token",
    "registers": "reg_token",
    "places.table": "pos_embed",
    "stream.norm": "norm",
    "pool.probe": "attn_pool.latent",
    "pool.attention.in_proj_weight": "attn_pool.qkv.weight",
    "pool.attention.in_proj_bias": "attn_pool.qkv.bias",
    "pool.attention.out_proj": "attn_pool.proj",
    "pool.rest.feedforward_branch.norm": "attn_pool.norm",
    "pool.rest.feedforward.up": "attn_pool.mlp.fc1",
    "pool.rest.feedforward.down": "attn_pool.mlp.fc2",
}
"""Outside the blocks; the pool is SigLIP's."""
BLOCK = {
    "attention_branch.norm": "norm1",
    "attention_branch.scale": "ls1.scale_factor",
    "attention.in_proj_weight": "attn.qkv.weight",
    "attention.in_proj_bias": "attn.qkv.bias",
    "attention.out_proj": "attn.proj",
    "film.linear": "film",
    "feedforward_branch.norm": "norm2",
    "feedforward_branch.scale": "ls2.scale_factor",
    "feedforward.up": "mlp.fc1",
    "feedforward.down": "mlp.fc2",
}
"""Within a block; film is the fine-tuned form's, two maps in the file."""
Kind = Literal["dinov2", "siglip"]


@dataclass(frozen=True)
class Sizes:
    """What the shapes of a tower's tensors do not say."""

    kind: Kind
    heads: int = 0
    """0 = by the kind and width."""


def sizes_of(timm_name: str) -> Sizes:
    """Of a tower by its name in timm; raises ConfigError for one of another kind."""
    kind = next((kind for kind in ("dinov2", "siglip") if kind in timm_name), None)
    if kind is None:
        raise ConfigError(
            f"config.json: timm_model_ids: only DINOv2's and SigLIP's towers are read, found {timm_name!r}"
        )
    return Sizes(kind)  # type: ignore[arg-type]


def heads_of(kind: Kind, width: int) -> int:
    """Heads of published towers: 64 wide, but for SigLIP's So400m, whose 16 are 72 wide."""
    return 16 if kind == "siglip" and width == 1152 else max(1, width // 64)


def described(tensors: Mapping[str, Tensor], prefix: str, sizes: Sizes, image: int, film: int = 0) -> VisionTower:
    """The tower of a file's tensors behind `prefix`, which give its sizes; raises ConfigError for one it lacks."""

    def shape(name: str) -> tuple[int, ...]:
        if prefix + name not in tensors:
            raise ConfigError(f"missing tensor {prefix + name!r}")
        return tuple(tensors[prefix + name].shape)

    width, channels, patch, _ = shape("patch_embed.proj.weight")
    numbers = {int(name[len(prefix) :].split(".")[1]) for name in tensors if name.startswith(f"{prefix}blocks.")}
    hidden = shape("blocks.0.mlp.fc1.weight")[0]
    found = VisionTower(
        image, patch, width, len(numbers), sizes.heads or heads_of(sizes.kind, width),
        DenseMlp(hidden, "gelu"), LayerNorm(1e-6), channels, class_token=False, layer=-2, pool="none",
        film=film,
    )  # fmt: skip
    if sizes.kind == "dinov2":
        registers = shape("reg_token")[1] if f"{prefix}reg_token" in tensors else 0
        return replace(found, class_token=True, class_position=False, registers=registers, layer_scale=1.0)
    return replace(found, pool="attention" if f"{prefix}attn_pool.latent" in tensors else "none")


def tower(network: VisionTower) -> Tower:
    """Names and shapes of a tower's tensors."""
    width, registers = network.width, network.registers
    shapes = {
        "cls_token": ((1, 1, width), (width,)),
        "reg_token": ((1, registers, width), (registers, width)),
        "pos_embed": ((1, network.side**2, width), (network.side**2, width)),
        "attn_pool.latent": ((1, 1, width), (width,)),
    }
    return Tower(network, network.build, network.layers, NAMES, "blocks", BLOCK, shapes=shapes)


def pack(checkpoint: Checkpoint, network: VisionTower, prefix: str = "") -> None:
    """Brings a tower's tensors behind `prefix` into our shapes; raises ConfigError naming one that is wrong."""
    own, width = tower(network), network.width
    own.pack(checkpoint, prefix)
    if network.pool == "attention":
        where = f"{prefix}attn_pool."
        checkpoint.pack(
            f"{where}qkv.weight", {f"{where}q.weight": (width, width), f"{where}kv.weight": (2 * width, width)}
        )
        checkpoint.pack(f"{where}qkv.bias", {f"{where}q.bias": (width,), f"{where}kv.bias": (2 * width,)})
    for i in range(network.layers if network.film else 0):
        where, rows = f"{prefix}blocks.{i}.", (width, network.film)
        checkpoint.pack(f"{where}film.weight", {f"{where}shift.weight": rows, f"{where}scale.weight": rows})
        checkpoint.pack(f"{where}film.bias", {f"{where}shift.bias": (width,), f"{where}scale.bias": (width,)})
