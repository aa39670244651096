"""BLIP's pretraining as plain functions of a checkpoint's tensors, under the checkpoint's own names.

Written from the papers' definitions (Li et al. 2021, ALBEF; Li et al. 2022, BLIP), with nothing of the package, so that
gradients have a reference where transformers has no class. Shapes: B rows, L ids, S tokens of an image, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from benchmarks.parity.restated import Weights, attend
from torch import Tensor
from torch.nn import functional as F

LEAST = 1e-4
"""What is added to the weight of a negative."""


def sight(tensors: Mapping[str, Tensor], config: Mapping[str, Any], name: str, images: Tensor) -> Tensor:
    """Tokens (B, S, W) of images (B, 3, h, w)."""
    w, at = Weights(tensors, config["layer_norm_eps"]), f"{name}.embeddings"
    patch, bias = (tensors[f"{at}.patch_embedding.{one}"] for one in ("weight", "bias"))
    patches = F.conv2d(images, patch, bias, stride=patch.shape[-1]).flatten(2).mT
    x = torch.cat([tensors[f"{at}.class_embedding"].expand(len(images), -1, -1), patches], 1)
    x = x + tensors[f"{at}.position_embedding"]
    for i in range(config["num_hidden_layers"]):
        layer = f"{name}.encoder.layers.{i}"
        packed = w.linear(f"{layer}.self_attn.qkv", w.norm(f"{layer}.layer_norm1", x))
        found = attend(*packed.chunk(3, -1), config["num_attention_heads"])
        x = x + w.linear(f"{layer}.self_attn.projection", found)
        h = F.gelu(w.linear(f"{layer}.mlp.fc1", w.norm(f"{layer}.layer_norm2", x)))
        x = x + w.linear(f"{layer}.mlp.fc2", h)
    return w.norm(f"{name}.post_layernorm", x)


def read(
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    ids: Tensor,
    seen: Tensor,
    *,
    name: str = "text_encoder",
    own: str = "",
    images: Tensor | None = None,
) -> Tensor:
    """Hidden states (B, L, W) of ids; seen: (B, L, L) bool; images: (B, S, W') that are looked at.

    name: of the tensors; own: of those of attention to the text, where they are others.
    """
    w, heads = Weights(tensors, config["layer_norm_eps"]), config["num_attention_heads"]

    def mixed(at: str, x: Tensor, source: Tensor, seen: Tensor | None) -> Tensor:
        q, k, v = w.linear(f"{at}.self.query", x), *(w.linear(f"{at}.self.{one}", source) for one in ("key", "value"))
        found = w.linear(f"{at}.output.dense", attend(q, k, v, heads, seen))
        return w.norm(f"{at}.output.LayerNorm", x + found)

    at = f"{name}.embeddings"
    x = tensors[f"{at}.word_embeddings.weight"][ids] + tensors[f"{at}.position_embeddings.weight"][: ids.shape[1]]
    x = w.norm(f"{at}.LayerNorm", x)
    for i in range(config["num_hidden_layers"]):
        layer = f"{name}.encoder.layer.{i}"
        x = mixed(f"{own or name}.encoder.layer.{i}.attention", x, x, seen)
        if images is not None:
            x = mixed(f"{layer}.crossattention", x, images, None)
        h = F.gelu(w.linear(f"{layer}.intermediate.dense", x))
        x = w.norm(f"{layer}.output.LayerNorm", x + w.linear(f"{layer}.output.dense", h))
    return x


def pretraining(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], io: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The three losses and their sum, the likeliest negatives taken."""
    text, ids, valid = config["text_config"], io["in.input_ids"], io["in.attention_mask"].bool()
    both_ways = valid[:, None].expand(-1, ids.shape[1], -1)
    tokens = sight(tensors, config["vision_config"], "visual_encoder", io["in.image"])
    h = read(tensors, text, ids, both_ways)
    image, words = projected(tensors, tokens, h)
    near, far = logits(image, words, io, tensors, config)
    found = {"out.loss_ita": contrast(near, far, io)}
    texts, images = (chosen(own[:, : len(ids)]) for own, _ in (near, far))
    found["out.loss_itm"] = matching(tensors, config, io, tokens, texts, images)
    found["out.loss_lm"] = caption(tensors, config, io, tokens)
    return found | {"loss": torch.stack([*found.values()]).sum()}


def projected(tensors: Mapping[str, Tensor], tokens: Tensor, h: Tensor, copy: str = "") -> tuple[Tensor, Tensor]:
    """Unit vectors (B, D) of images and of texts."""
    w = Weights(tensors)
    vectors = w.linear(f"vision_proj{copy}", tokens[:, 0]), w.linear(f"text_proj{copy}", h[:, 0])
    return F.normalize(vectors[0], dim=-1), F.normalize(vectors[1], dim=-1)


def logits(
    image: Tensor, words: Tensor, io: Mapping[str, Tensor], tensors: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Of images to texts and of texts to images (B, B + queue), each with what momentum's copies say."""
    with torch.no_grad():
        m = config["momentum"]
        slow = {
            name: m * value + (1 - m) * tensors[name.replace("_m.", ".", 1)]
            for name, value in tensors.items()
            if name.partition(".")[0].endswith("_m")
        }
        ids, valid = io["in.input_ids"], io["in.attention_mask"].bool()
        seen = valid[:, None].expand(-1, ids.shape[1], -1)
        tokens = sight(slow, config["vision_config"], "visual_encoder_m", io["in.image"])
        h = read(slow, config["text_config"], ids, seen, name="text_encoder_m")
        images, texts = projected(slow, tokens, h, "_m")
        every_image, every_text = (
            torch.cat([own.mT, io[f"in.{name}_queue"]], 1) for own, name in ((images, "image"), (texts, "text"))
        )
    scale = io["in.temp"]
    return (image @ every_text / scale, images @ every_text / scale), (
        words @ every_image / scale,
        texts @ every_image / scale,
    )


def contrast(near: tuple[Tensor, Tensor], far: tuple[Tensor, Tensor], io: Mapping[str, Tensor]) -> Tensor:
    """The mean of both cross-entropies with momentum's answers as part of the targets."""
    losses = []
    for own, taught in (near, far):
        targets = io["in.alpha"] * taught.softmax(1) + (1 - io["in.alpha"]) * torch.eye(*own.shape, dtype=own.dtype)
        losses.append(-(own.log_softmax(1) * targets).sum(1).mean())
    return torch.stack(losses).mean()


def chosen(similar: Tensor) -> Tensor:
    """The likeliest other of each row (B,), of logits (B, B) among the batch."""
    return (similar.softmax(1) + LEAST).fill_diagonal_(0).argmax(1)


def matching(
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    io: Mapping[str, Tensor],
    tokens: Tensor,
    texts: Tensor,
    images: Tensor,
) -> Tensor:
    """Of pairs, of images with another's text, and of texts with another's image; texts, images: which other's (B,)."""
    ids, valid, own = io["in.input_ids"].clone(), io["in.attention_mask"].bool(), torch.arange(len(texts))
    ids[:, 0] = config["enc_token_id"]
    rows, others = torch.cat([own, own, images]), torch.cat([own, texts, own])
    seen = valid[others][:, None].expand(-1, ids.shape[1], -1)
    h = read(tensors, config["text_config"], ids[others], seen, images=tokens[rows])
    answers = torch.cat([torch.ones_like(own), torch.zeros_like(own), torch.zeros_like(own)])
    return F.cross_entropy(Weights(tensors).linear("itm_head", h[:, 0]), answers)


def caption(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], io: Mapping[str, Tensor], tokens: Tensor
) -> Tensor:
    """Of the next id, smoothed."""
    ids, text = io["in.input_ids"].clone(), config["text_config"]
    ids[:, 0] = config["bos_token_id"]
    valid = io["in.attention_mask"].bool()
    seen = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril() & valid[:, None]
    h = read(tensors, text, ids, seen, own="text_decoder.bert", images=tokens)
    w, at = Weights(tensors, text["layer_norm_eps"]), "text_decoder.cls.predictions"
    h = w.norm(f"{at}.transform.LayerNorm", F.gelu(w.linear(f"{at}.transform.dense", h)))
    labels = ids.masked_fill(ids == config["pad_token_id"], -100)[:, 1:]
    made = w.linear(f"{at}.decoder", h)[:, :-1]
    return F.cross_entropy(made.flatten(0, 1), labels.flatten(), label_smoothing=config["label_smoothing"])
