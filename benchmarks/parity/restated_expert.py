"""pi0, pi0.5, pi0-FAST and SmolVLA as plain functions of a checkpoint's tensors, under the checkpoint's own names.

Written from the papers' definitions (Black et al. 2024; Physical Intelligence 2025; Shukor et al. 2025) and the layout
of the files, with nothing of the package, so that their losses have gradients to compare with. Shapes: B rows, C
cameras, P tokens of a prefix, H actions, N = P + suffix, W width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from benchmarks.parity.restated import Weights, attend
from torch import Tensor
from torch.nn import functional as F

WORDS = "in.observation.language."
THETA = 10000.0
"""Of the rotations, whatever a configuration says."""


@dataclass(frozen=True)
class Tower:
    """A language model or an expert: where its tensors are, and how its norms and its products are made."""

    name: str
    gemma: bool
    epsilon: float

    def norm(self, w: Weights, name: str, x: Tensor, told: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The normed tokens, and the gate of what is added to them where a time steers the norm."""
        plain = x * (x.square().mean(-1, keepdim=True) + self.epsilon).rsqrt()
        at = f"{self.name}.{name}"
        if told is not None:
            scale, shift, gate = w.linear(f"{at}.dense", told)[:, None].chunk(3, -1)
            return plain * (1 + scale) + shift, gate
        weight = w.tensors[f"{at}.weight"]
        return plain * (1 + weight if self.gemma else weight), None

    def mlp(self, w: Weights, layer: int, x: Tensor) -> Tensor:
        """The gated product."""
        at = f"{self.name}.layers.{layer}.mlp"
        gate = w.linear(f"{at}.gate_proj", x)
        gate = F.gelu(gate, approximate="tanh") if self.gemma else F.silu(gate)
        return w.linear(f"{at}.down_proj", gate * w.linear(f"{at}.up_proj", x))


def added(x: Tensor, y: Tensor, gate: Tensor | None) -> Tensor:
    """x + y, through a gate where there is one."""
    return x + (y if gate is None else gate * y)


def turned(x: Tensor, places: Tensor) -> Tensor:
    """(B, N, heads, d) rotated by places (B, N), halves together."""
    half = x.shape[-1] // 2
    angles = places[..., None, None] * THETA ** (-torch.arange(half, dtype=x.dtype) / half)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], -1)


def many(x: Tensor, heads: int) -> Tensor:
    """(B, N, groups, d) as (B, N, heads d), each group for its heads."""
    return x.repeat_interleave(heads // x.shape[2], 2).flatten(2)


def pictured(w: Weights, name: str, images: Tensor, heads: int) -> Tensor:
    """Tokens (B, S, W) of SigLIP's tower of images (B, 3, h, w)."""
    at = f"{name}.embeddings"
    patch, bias = (w.tensors[f"{at}.patch_embedding.{one}"] for one in ("weight", "bias"))
    x = F.conv2d(images, patch, bias, stride=patch.shape[-1]).flatten(2).mT
    x = x + w.tensors[f"{at}.position_embedding.weight"]
    layers = 1 + max(
        int(key.split(".encoder.layers.")[1].split(".")[0]) for key in w.tensors if f"{name}.encoder" in key
    )
    for i in range(layers):
        layer = f"{name}.encoder.layers.{i}"
        h = w.norm(f"{layer}.layer_norm1", x)
        q, k, v = (w.linear(f"{layer}.self_attn.{one}_proj", h) for one in "qkv")
        x = x + w.linear(f"{layer}.self_attn.out_proj", attend(q, k, v, heads))
        h = F.gelu(w.linear(f"{layer}.mlp.fc1", w.norm(f"{layer}.layer_norm2", x)), approximate="tanh")
        x = x + w.linear(f"{layer}.mlp.fc2", h)
    return w.norm(f"{name}.post_layernorm", x)


def sinusoids(t: Tensor, width: int) -> Tensor:
    """(B, width) of times (B,) that run from data to noise."""
    periods = 4e-3 * (4.0 / 4e-3) ** torch.linspace(0, 1, width // 2, dtype=t.dtype)
    angles = 2 * math.pi * t[:, None] / periods
    return torch.cat([angles.sin(), angles.cos()], -1)


def mixed_in(io: Mapping[str, Tensor], width: int) -> tuple[Tensor, Tensor]:
    """Actions with noise (B, H, width) and the velocity from data to noise."""
    x, noise, t = io["in.action"], io["noise.train"], io["noise.time"][:, None, None]
    x = F.pad(x, (0, width - x.shape[-1]))
    return t * noise + (1 - t) * x, noise - x


def told(w: Weights, actions: Tensor, t: Tensor) -> Tensor:
    """Tokens of actions (B, H, W) that know the time."""
    x = w.linear("model.action_in_proj", actions)
    time = sinusoids(t, x.shape[-1])[:, None].expand_as(x)
    h = F.silu(w.linear("model.action_time_mlp_in", torch.cat([x, time], -1)))
    return w.linear("model.action_time_mlp_out", h)


def blocks(valid: Tensor, begins: Tensor) -> Tensor:
    """(B, N, N) who sees whom: each block those before it and itself; begins (N,): 1 where a block begins."""
    number = begins.cumsum(0)
    return (number <= number[:, None]) & valid[:, None] & valid[:, :, None]


def projected(
    w: Weights, tower: Tower, layer: int, x: Tensor, sizes: tuple[int, int], time: Tensor | None
) -> tuple[list[Tensor], Tensor | None]:
    """q, k and v (B, N, heads or groups, d), and the gate of the norm in front of them."""
    h, gate = tower.norm(w, f"layers.{layer}.input_layernorm", x, time)
    made = [w.linear(f"{tower.name}.layers.{layer}.self_attn.{one}_proj", h) for one in "qkv"]
    return [y.unflatten(-1, (count, -1)) for y, count in zip(made, (sizes[0], sizes[1], sizes[1]), strict=True)], gate


def finished(w: Weights, tower: Tower, layer: int, x: Tensor, mixed: Tensor, gate: Tensor | None, time: Any) -> Tensor:
    """What attention gave is added, and the gated product of it."""
    x = added(x, w.linear(f"{tower.name}.layers.{layer}.self_attn.o_proj", mixed), gate)
    h, gate = tower.norm(w, f"layers.{layer}.post_attention_layernorm", x, time)
    return added(x, tower.mlp(w, layer, h), gate)


def pi0(tensors: Mapping[str, Tensor], case: Mapping[str, Any], io: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The velocity and the loss of pi0, or of pi0.5 where the time steers the norms."""
    w, sizes, root = Weights(tensors, 1e-6), case["sizes"], "model.paligemma_with_expert"
    own, steered = f"{root}.paligemma.model", "model.time_mlp_in.weight" in tensors
    towers = Tower(f"{own}.language_model", True, 1e-6), Tower(f"{root}.gemma_expert.model", True, 1e-6)
    prefix, valid = _seen(w, own, f"{root}.paligemma.lm_head", case, io)
    actions, velocity = mixed_in(io, case["max_action_dim"])
    suffix, time = _suffix(w, actions, io, case, steered)
    fresh = torch.zeros(suffix.shape[1], dtype=torch.long)
    fresh[: 1 if steered else 2] = 1
    whole = torch.cat([valid, valid.new_ones(suffix.shape[:2])], 1)
    seen = blocks(whole, torch.cat([torch.zeros(prefix.shape[1], dtype=torch.long), fresh]))
    places, heads = (whole.cumsum(1) - 1).to(suffix), (sizes["vlm"]["num_heads"], sizes["vlm"]["num_kv_heads"])
    streams, times = [prefix, suffix], (None, time)
    for i in range(sizes["vlm"]["depth"]):
        made = [projected(w, tower, i, x, heads, t) for tower, x, t in zip(towers, streams, times, strict=True)]
        q, k, v = (torch.cat([parts[j] for parts, _ in made], 1) for j in range(3))
        mixed = attend(
            many(turned(q, places), heads[0]), many(turned(k, places), heads[0]), many(v, heads[0]), heads[0], seen
        )
        parts = mixed.split([prefix.shape[1], suffix.shape[1]], 1)
        streams = [
            finished(w, tower, i, x, part, gate, t)
            for tower, x, part, (_, gate), t in zip(towers, streams, parts, made, times, strict=True)
        ]
    h, _ = towers[1].norm(w, "norm", streams[1], time)
    found = w.linear("model.action_out_proj", h[:, -case["chunk_size"] :])
    error = (found - velocity).square()[..., : case["action_dim"]]
    return {"out.velocity": found, "loss": error.mean()}


def pi0_fast(tensors: Mapping[str, Tensor], case: Mapping[str, Any], io: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The logits and the loss of ids of actions behind a prefix that sees all of itself."""
    w, sizes, root = Weights(tensors, 1e-6), case["sizes"]["vlm"], "model.paligemma_with_expert.paligemma"
    tower, heads = Tower(f"{root}.model.language_model", True, 1e-6), (sizes["num_heads"], sizes["num_kv_heads"])
    prefix, valid = _seen(w, f"{root}.model", f"{root}.lm_head", case, io)
    ids, real = io["in.action.tokens"], io["in.action.token_mask"].bool()
    table = tensors.get(f"{tower.name}.embed_tokens.weight", tensors[f"{root}.lm_head.weight"])
    x, whole = torch.cat([prefix, table[ids] * table.shape[1] ** 0.5], 1), torch.cat([valid, real], 1)
    begins = torch.cat([torch.zeros(prefix.shape[1], dtype=torch.long), torch.ones(ids.shape[1], dtype=torch.long)])
    seen, places = blocks(whole, begins), (whole.cumsum(1) - 1).to(x)
    for i in range(sizes["depth"]):
        (q, k, v), _ = projected(w, tower, i, x, heads, None)
        keys, values = many(turned(k, places), heads[0]), many(v, heads[0])
        x = finished(w, tower, i, x, attend(turned(q, places).flatten(2), keys, values, heads[0], seen), None, None)
    h, _ = tower.norm(w, "norm", x[:, prefix.shape[1] :], None)
    logits = w.linear(f"{root}.lm_head", h)
    errors = F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    known = torch.where(real[..., None], logits, io["out.logits"])
    return {"out.logits": known, "loss": (errors * real[:, 1:]).sum() / real[:, 1:].sum()}


def _seen(w: Weights, own: str, head: str, case: Mapping[str, Any], io: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """PaliGemma's prefix (B, P, W) and which of it counts: pictures, then words."""
    images, there = io["out.images"], io["out.image_masks"].bool()
    heads, parts, valid = case["sizes"]["vision"]["num_attention_heads"], [], []
    for image, mask in zip(images.unbind(1), there.unbind(1), strict=True):
        tokens = pictured(w, f"{own}.vision_tower.vision_model", image, heads)
        parts.append(w.linear(f"{own}.multi_modal_projector.linear", tokens))
        valid.append(mask[:, None].expand(-1, tokens.shape[1]))
    table = w.tensors.get(f"{own}.language_model.embed_tokens.weight", w.tensors[f"{head}.weight"])
    words = table[io[WORDS + "tokens"]] * table.shape[1] ** 0.5
    return torch.cat([*parts, words], 1), torch.cat([*valid, io[WORDS + "attention_mask"].bool()], 1)


def _suffix(
    w: Weights, actions: Tensor, io: Mapping[str, Tensor], case: Mapping[str, Any], steered: bool
) -> tuple[Tensor, Tensor | None]:
    """Tokens (B, 1 + H or H, W) of the state and the actions, and what steers the norms."""
    if steered:
        x = w.linear("model.action_in_proj", actions)
        h = F.silu(w.linear("model.time_mlp_in", sinusoids(io["noise.time"], x.shape[-1])))
        return x, F.silu(w.linear("model.time_mlp_out", h))
    state = io["in.observation.state"]
    state = F.pad(state, (0, case["max_state_dim"] - state.shape[-1]))
    own = w.linear("model.state_proj", state)[:, None]
    return torch.cat([own, told(w, actions, io["noise.time"])], 1), None


def smolvla(tensors: Mapping[str, Tensor], case: Mapping[str, Any], io: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The velocity and the loss of SmolVLA."""
    w, text, options = Weights(tensors, 1e-6), case["sizes"]["text"], case["options"]
    root, heads = "model.vlm_with_expert", (text["num_attention_heads"], text["num_key_value_heads"])
    reader = Tower(f"{root}.vlm.model.text_model", False, text["rms_norm_eps"])
    expert = Tower(f"{root}.lm_expert", False, text["rms_norm_eps"])
    prefix, valid, begins = _told_of(w, f"{root}.vlm.model", case, io)
    actions, velocity = mixed_in(io, case["max_action_dim"])
    x, suffix, length = prefix, told(w, actions, io["noise.time"]), prefix.shape[1]
    whole = torch.cat([valid, valid.new_ones(suffix.shape[:2])], 1)
    seen = blocks(whole, torch.cat([begins, torch.ones(suffix.shape[1], dtype=torch.long)]))
    places = (whole.cumsum(1) - 1).to(suffix)
    layers, every = options["num_vlm_layers"], options["self_attn_every_n_layers"]
    apart = layers // options.get("num_expert_layers", layers)
    for i in range(layers):
        (q, k, v), _ = projected(w, reader, i, x, heads, None)
        q, k = turned(q, places[:, :length]), turned(k, places[:, :length])
        if i % apart == 0:
            own, where = i // apart, places[:, length:]
            joint = every > 0 and i % every == 0
            asks, keys, values = _asked(w, expert, own, suffix, (k, v), heads, where, joint)
            rows = seen[:, length:] if joint else seen[:, length:, :length]
            mixed = attend(asks.flatten(2), many(keys, heads[0]), many(values, heads[0]), heads[0], rows)
            suffix = finished(w, expert, own, suffix, mixed, None, None)
        mixed = attend(q.flatten(2), many(k, heads[0]), many(v, heads[0]), heads[0], seen[:, :length, :length])
        x = finished(w, reader, i, x, mixed, None, None)
    h, _ = expert.norm(w, "norm", suffix, None)
    found = w.linear("model.action_out_proj", h[:, -case["chunk_size"] :])
    error = (found - velocity).square()[..., : case["action_dim"]] * ~io["in.action_is_pad"][..., None]
    return {"out.velocity": found, "loss": error.sum() / ((~io["in.action_is_pad"]).sum() * case["action_dim"])}


def _asked(
    w: Weights, expert: Tower, layer: int, x: Tensor, read: tuple[Tensor, Tensor], heads: tuple[int, int],
    places: Tensor, joint: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """q of actions, and the k and v that they see: the prefix's and their own, or maps of the prefix's alone."""
    at, (keys, values) = f"{expert.name}.layers.{layer}.self_attn", read
    if joint:
        (q, k, v), _ = projected(w, expert, layer, x, heads, None)
        return turned(q, places), torch.cat([keys, turned(k, places)], 1), torch.cat([values, v], 1)
    h, _ = expert.norm(w, f"layers.{layer}.input_layernorm", x, None)
    q = w.linear(f"{at}.q_proj", h).unflatten(-1, (heads[0], -1))
    made = (w.linear(f"{at}.{one}_proj", y.flatten(2)) for one, y in (("k", keys), ("v", values)))
    k, v = (y.unflatten(-1, (heads[1], -1)) for y in made)
    return turned(q, places - places[:, :1]), k, v


def _told_of(w: Weights, own: str, case: Mapping[str, Any], io: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """SmolVLM's prefix (B, P, W), which of it counts, and where blocks begin (P,): pictures, words, the state."""
    table = w.tensors[f"{own}.text_model.embed_tokens.weight"]
    rows, scale, marks = len(io["out.images"]), table.shape[1] ** 0.5, case["special_ids"]
    special = case["options"].get("add_image_special_tokens", False)
    ids = ([marks["fake_image"], marks["global_image"]], [marks["fake_image"]]) if special else ([], [])
    before, after = (table[one][None].expand(rows, -1, -1) for one in ids)
    parts, valid = [], []
    for image, mask in zip(io["out.images"].unbind(1), io["out.image_masks"].bool().unbind(1), strict=True):
        x = pictured(w, f"{own}.vision_model", image, case["sizes"]["vision"]["num_attention_heads"])
        side, block = int(x.shape[1] ** 0.5), case["sizes"]["scale_factor"]
        x = (
            x.view(rows, side // block, block, side // block, block, -1)
            .transpose(2, 3)
            .reshape(rows, (side // block) ** 2, -1)
        )
        tokens = w.linear(f"{own}.connector.modality_projection.proj", x) * scale
        parts += [before, tokens, after]
        counts = [mask.new_ones(rows, before.shape[1]), mask[:, None].expand(-1, tokens.shape[1])]
        valid += [*counts, mask.new_ones(rows, after.shape[1])]
    state = F.pad(io["in.observation.state"], (0, case["max_state_dim"] - io["in.observation.state"].shape[-1]))
    parts += [table[io[WORDS + "tokens"]] * scale, w.linear("model.state_proj", state)[:, None]]
    valid += [io[WORDS + "attention_mask"].bool(), torch.ones(rows, 1, dtype=torch.bool)]
    x, counted = torch.cat(parts, 1), torch.cat(valid, 1)
    begins = torch.zeros(x.shape[1], dtype=torch.long)
    begins[-1] = 1
    more = max(0, case["options"].get("prefix_length", -1) - x.shape[1])
    return F.pad(x, (0, 0, 0, more)), F.pad(counted, (0, more)), F.pad(begins, (0, more))
