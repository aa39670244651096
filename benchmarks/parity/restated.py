"""Flamingo as plain functions of a checkpoint's tensors, under the checkpoint's own names.

Written from the papers' definitions (Alayrac et al. 2022; a Llama of its published form), with nothing of the package,
so that gradients have a reference where transformers has no class. Shapes: B rows, T images, L ids, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

HIDDEN = -1e30
"""What a key that is not seen has for a score."""


@dataclass(frozen=True)
class Weights:
    """Layers by the names of their tensors."""

    tensors: Mapping[str, Tensor]
    epsilon: float = 1e-5

    def linear(self, name: str, x: Tensor) -> Tensor:
        """A product, and a bias where there is one."""
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def norm(self, name: str, x: Tensor) -> Tensor:
        """LayerNorm."""
        return F.layer_norm(x, x.shape[-1:], self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], self.epsilon)

    def root(self, name: str, x: Tensor, epsilon: float) -> Tensor:
        """RMSNorm."""
        return self.tensors[f"{name}.weight"] * x * (x.square().mean(-1, keepdim=True) + epsilon).rsqrt()

    def mlp(self, name: str, x: Tensor) -> Tensor:
        """A norm, a product, GELU, a product: numbers 0, 1 and 3 of a sequence."""
        return self.linear(f"{name}.3", F.gelu(self.linear(f"{name}.1", self.norm(f"{name}.0", x))))


def parted(x: Tensor, heads: int) -> Tensor:
    """(..., L, W) as (..., heads, L, W / heads)."""
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, seen: Tensor | None = None) -> Tensor:
    """Attention (..., L, W) by heads; seen: (..., L, S) bool, and who sees none gives 0."""
    q, k, v = (parted(x, heads) for x in (q, k, v))
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if seen is not None:
        scores = scores.masked_fill(~seen.unsqueeze(-3), HIDDEN)
    mixed = scores.softmax(-1) @ v
    if seen is not None:
        mixed = mixed * seen.any(-1, keepdim=True).unsqueeze(-3)
    return mixed.transpose(-3, -2).flatten(-2)


def resampled(w: Weights, config: Mapping[str, Any], features: Tensor) -> Tensor:
    """Latents (B, T, n, D) of features (B, T, F, v, D)."""
    media = features.flatten(2, 3)
    latents = w.tensors["perceiver.latents"].expand(*media.shape[:2], -1, -1)
    for i in range(config["perceiver_depth"]):
        name = f"perceiver.layers.{i}"
        asks = w.norm(f"{name}.0.norm_latents", latents)
        both = torch.cat([w.norm(f"{name}.0.norm_media", media), asks], 2)
        keys, values = w.linear(f"{name}.0.to_kv", both).chunk(2, -1)
        found = attend(w.linear(f"{name}.0.to_q", asks), keys, values, config["perceiver_heads"])
        latents = latents + w.linear(f"{name}.0.to_out", found)
        latents = latents + w.mlp(f"{name}.1", latents)
    return w.norm("perceiver.norm", latents)


def looked(w: Weights, name: str, x: Tensor, latents: Tensor, images: Tensor, heads: int) -> Tensor:
    """x (B, L, W) with what the gates let in of the image that was last named; images (B, L): how many were."""
    each = latents.shape[2]
    numbers = torch.arange(1, latents.shape[1] + 1).repeat_interleave(each)
    asks = w.linear(f"{name}.attn.to_q", w.norm(f"{name}.attn.norm", x))
    keys, values = w.linear(f"{name}.attn.to_kv", latents.flatten(1, 2)).chunk(2, -1)
    found = attend(asks, keys, values, heads, images[..., None] == numbers)
    x = x + w.tensors[f"{name}.attn_gate"].tanh() * w.linear(f"{name}.attn.to_out", found)
    return x + w.tensors[f"{name}.ff_gate"].tanh() * w.mlp(f"{name}.ff", x)


def turned(x: Tensor, theta: float) -> Tensor:
    """(B, L, heads, d) rotated by position, halves together."""
    half = x.shape[-1] // 2
    speeds = theta ** (-torch.arange(half, dtype=x.dtype) / half)
    angles = torch.arange(x.shape[1], dtype=x.dtype)[:, None, None] * speeds
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], -1)


def llama_layer(w: Weights, name: str, config: Mapping[str, Any], x: Tensor, seen: Tensor) -> Tensor:
    """One layer of a Llama."""
    heads, groups, epsilon = config["num_attention_heads"], config["num_key_value_heads"], config["rms_norm_eps"]
    h = w.root(f"{name}.input_layernorm", x, epsilon)
    q, k, v = (w.linear(f"{name}.self_attn.{one}_proj", h) for one in "qkv")
    q = turned(q.unflatten(-1, (heads, -1)), config["rope_theta"]).flatten(-2)
    k = turned(k.unflatten(-1, (groups, -1)), config["rope_theta"])
    k, v = (y.repeat_interleave(heads // groups, 2).flatten(-2) for y in (k, v.unflatten(-1, (groups, -1))))
    x = x + w.linear(f"{name}.self_attn.o_proj", attend(q, k, v, heads, seen))
    h = w.root(f"{name}.post_attention_layernorm", x, epsilon)
    gated = F.silu(w.linear(f"{name}.mlp.gate_proj", h)) * w.linear(f"{name}.mlp.up_proj", h)
    return x + w.linear(f"{name}.mlp.down_proj", gated)


def flamingo(tensors: Mapping[str, Tensor], config: Mapping[str, Any], io: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Latents, logits where attended to, and the loss of shifted labels."""
    w, text, ids = Weights(tensors), config["text"], io["in.input_ids"]
    latents = resampled(w, config, io["in.vision_features"])
    images = (ids == config["media_token_id"]).cumsum(1)
    valid = io["in.attention_mask"].bool()
    seen = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril() & valid[:, None]
    x = tensors["lang_encoder.model.embed_tokens.weight"][ids]
    for i in range(text["num_hidden_layers"]):
        layer, cross = f"lang_encoder.model.layers.{i}", f"lang_encoder.model.layers.{i}.gated_cross_attn_layer"
        if (i + 1) % config["cross_attn_every_n_layers"] == 0:
            x = looked(w, cross, x, latents, images, config["cross_attn_heads"])
        x = llama_layer(w, f"{layer}.decoder_layer", text, x, seen)
    logits = w.linear("lang_encoder.lm_head", w.root("lang_encoder.model.norm", x, text["rms_norm_eps"]))
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), io["in.labels"][:, 1:].flatten())
    return {"out.latents": latents, "out.logits": logits * valid[..., None], "loss": loss}
