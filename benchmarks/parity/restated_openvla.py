"""OpenVLA as plain functions of a checkpoint's tensors, under the checkpoint's own names.

Written from the paper (Kim et al. 2024) and the layout of the files, with nothing of the package, so that its loss has
gradients to compare with. Shapes: B rows, P patches, L ids, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from benchmarks.parity.restated import Weights, attend, llama_layer
from torch import Tensor
from torch.nn import functional as F

THETA = 10000.0
IGNORED = -100
"""Label of what is not counted."""


def features(w: Weights, name: str, sizes: Mapping[str, Any], images: Tensor) -> Tensor:
    """Tokens (B, P, W) that the last block but one gives of images (B, 3, h, w)."""
    patch, bias = (w.tensors[f"{name}.patch_embed.proj.{one}"] for one in ("weight", "bias"))
    x = F.conv2d(images, patch, bias, stride=patch.shape[-1]).flatten(2).mT + w.tensors[f"{name}.pos_embed"]
    first = [w.tensors[f"{name}.{one}"] for one in ("cls_token", "reg_token") if f"{name}.{one}" in w.tensors]
    ahead = sum(one.shape[1] for one in first)
    x = torch.cat([*(one.expand(len(x), -1, -1) for one in first), x], 1)
    for i in range(sizes["depth"] - 1):
        block = f"{name}.blocks.{i}"
        q, k, v = w.linear(f"{block}.attn.qkv", w.norm(f"{block}.norm1", x)).chunk(3, -1)
        found = w.linear(f"{block}.attn.proj", attend(q, k, v, sizes["num_heads"]))
        x = x + found * w.tensors.get(f"{block}.ls1.scale_factor", 1.0)
        h = F.gelu(w.linear(f"{block}.mlp.fc1", w.norm(f"{block}.norm2", x)))
        x = x + w.linear(f"{block}.mlp.fc2", h) * w.tensors.get(f"{block}.ls2.scale_factor", 1.0)
    return x[:, ahead:]


def openvla(tensors: Mapping[str, Tensor], case: Mapping[str, Any], io: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What both towers see, what the language model is shown of it, and the loss of the labelled ids."""
    w, sizes, root = Weights(tensors, 1e-6), case["sizes"], "vision_backbone"
    towers = {"featurizer": "dinov2", "fused_featurizer": "siglip"}
    pictures = io["in.pixel_values"].split(3, 1)
    made = [
        features(w, f"{root}.{name}", sizes[own], x) for (name, own), x in zip(towers.items(), pictures, strict=True)
    ]
    seen = torch.cat(made, -1)
    h = F.gelu(w.linear("projector.fc2", F.gelu(w.linear("projector.fc1", seen))))
    tokens, text = w.linear("projector.fc3", h), sizes["text"] | {"rope_theta": THETA}
    words = tensors["language_model.model.embed_tokens.weight"][io["in.input_ids"]]
    x, valid, labels = (
        torch.cat([own[:, :1], more, own[:, 1:]], 1)
        for own, more in (
            (words, tokens),
            (io["in.attention_mask"].bool(), torch.ones(tokens.shape[:2], dtype=torch.bool)),
            (io["in.labels"], torch.full(tokens.shape[:2], IGNORED)),
        )
    )
    causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril() & valid[:, None]
    for i in range(text["num_hidden_layers"]):
        x = llama_layer(w, f"language_model.model.layers.{i}", text, x, causal)
    logits = w.linear("language_model.lm_head", w.root("language_model.model.norm", x, text["rms_norm_eps"]))
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
    return {"out.vision_features": seen, "out.projected": tokens, "loss": loss}
