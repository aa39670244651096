"""OpenVLA and the parts that OpenVLA-OFT adds: pixels, features, logits, loss, ids, actions; heads, maps and towers.

Shapes: B batch, L ids, K ids of the vocabulary, P patches, H horizon, A action width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from benchmarks.parity.answers import Answers
from benchmarks.parity.gradients import named
from torch import Tensor
from torch.nn import functional as F

from nextmove import weights
from nextmove.codecs.edge_bins import heard
from nextmove.codecs.scaled import Scaled
from nextmove.config import read_object
from nextmove.contracts import Context
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.interop.openvla import heads, layout, statistics, towers
from nextmove.interop.openvla.loading import Asked, load
from nextmove.interop.weights import fill, renamed
from nextmove.nn.attention import Heads
from nextmove.nn.chunk_head import ChunkHead
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm
from nextmove.nn.projector import Projector
from nextmove.nn.vit import VisionTower

CASE = "case.json"
IGNORED = -100
"""Label of what is not counted."""
FIRST = 31743
"""The id in front of OpenVLA's words of actions."""
ACTION = "out.action."


def answers(folder: Path, io: Mapping[str, Tensor]) -> Answers:
    """The whole model, its loss and greedy ids over all ids, as the published code draws them."""
    case = json.loads((folder / CASE).read_text())
    sizes = [
        towers.Sizes(kind, case["sizes"][kind]["num_heads"]) for kind in ("dinov2", "siglip") if kind in case["sizes"]
    ]  # type: ignore[arg-type]
    keys = [name.removeprefix(ACTION) for name in io if name.startswith(ACTION)]
    asked = Asked(unnorm_key=keys[0], towers=sizes, fps=5.0)
    loaded = load(folder, asked)
    policy: Any = loaded.policy
    encoder = policy.encoder
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        picture = encoder.config.framed(io["in.image_uint8"][None], encoder.towers[0].config.image)
        found["out.pixel_values_of_image"] = torch.cat(encoder.sight.scaled(picture), 1)
        features = encoder.sight.features(io["in.pixel_values"].split(3, 1))
        tokens = encoder.sight.tokens(features)
        found |= {"out.vision_features": features, "out.projected": tokens} | _read(encoder, tokens, io)
        ids = _greedy(encoder, tokens[:1], io["in.prompt_ids"], io["out.generated"].shape[1])
    data = read_object(folder / "config.json")
    vocabulary = int(data["text_config"]["vocab_size"]) - int(data["pad_to_multiple_of"])
    bins = policy.codec.bins
    found["out.every_value"] = bins.values(heard(io["in.every_id"], vocabulary, bins.bins))
    x = bins.decode(heard(ids, vocabulary, bins.bins))
    for key in keys:
        _, stats = statistics.chosen(statistics.read_statistics(folder, data), key)
        scale = Scaled(x.shape[-1], mode="quantiles")
        statistics.set_scale(scale, stats["action"], key)
        found[ACTION + key] = scale.decode(x)[0, 0]

    def loss() -> Tensor:
        own = encoder.sight.tokens(encoder.sight.features(io["in.pixel_values"].split(3, 1)))
        return _read(encoder, own, io)["loss"]

    found |= named(policy, folder, loss, io, lambda copy: load(copy, asked).policy)
    found["out.action_ids"] = vocabulary - 1 - bins.classes_of(io["in.raw_actions"])
    found["out.edge_ids"] = vocabulary - 1 - bins.classes_of(io["in.edge_actions"])
    return Answers(found, texts={"out.generated": ids}, report=loaded.report)


def _read(encoder: Any, tokens: Tensor, io: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Logits where attended to, and the mean over labels of the whole batch."""
    x, valid, _ = encoder.embedded([(tokens, None)], io["in.input_ids"], io["in.attention_mask"])
    h, _ = encoder.language.read_embedded(x, Context.empty(len(x)), valid=valid)
    logits = encoder.language.logits(h)
    labels = F.pad(io["in.labels"][:, 1:], (1 + tokens.shape[1], 0), value=IGNORED)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
    tail, sums = io["out.logits_tail"], io["out.logits_logsumexp"]
    last = valid[:, -tail.shape[1] :, None]
    # Positions of padding hold what the reference happens to compute there.
    return {
        "out.logits_tail": torch.where(last, logits[:, -tail.shape[1] :], tail),
        "out.logits_logsumexp": torch.where(valid, logits.logsumexp(-1), sums),
        "loss": loss,
    }


def _greedy(encoder: Any, tokens: Tensor, prompt: Tensor, count: int) -> Tensor:
    """The likeliest ids (1, A) behind a prompt, of all; the prefix is read once."""
    memory = encoder.prefix([(tokens, None)], prompt[:, :-1], None).memory
    language, last, found = encoder.language, prompt[:, -1:], []
    for _ in range(count):
        h, memory = language.read_embedded(language.embed(last), Context.empty(1), memory)
        last = language.logits(h[:, -1:]).argmax(-1)
        found.append(last)
    return torch.cat(found, 1)


def tuned(folder: Path, io: Mapping[str, Tensor]) -> Answers:
    """The parts of the fine-tuned form: head and loss, maps of state and noise, a steered block, masks of actions."""
    case = json.loads((folder / CASE).read_text())
    tensors = weights.read(folder / "model.safetensors")
    groups: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        groups.setdefault(part, {})[rest] = value
    actions, steps = case["action_dim"], case["chunk"]
    with torch.no_grad():
        made = _head(groups[heads.HEAD], actions)(io["in.hidden"].reshape(len(io["in.hidden"]), steps, -1))
        found = {"out.actions": made, "loss": (made - io["in.target"]).abs().mean()}
        found["out.proprio_token"] = _map(groups[heads.PROPRIO])(io["in.proprio"])
        found["out.noisy_tokens"] = _map(groups[heads.NOISE])(io["in.noisy_actions"])
        block = _block(groups["film_block"], case["vision_heads"])
        found["out.film_block"] = block.blocks[0](io["in.patches"], condition=io["in.language"])[0]
    place = (io["in.labels"] != IGNORED).cumsum(1)
    words = io["in.labels"] > FIRST
    texts = {"out.current_mask": words & (place <= actions), "out.next_mask": words & (place > actions)}
    return Answers(found, texts=texts)


def _head(own: Mapping[str, Tensor], actions: int) -> Any:
    kind = heads.kind_of(own, "action_head")
    names = {ours: heads.INSIDE[kind] + theirs for ours, theirs in heads.blocks(heads.count_blocks(own)).items()}
    hidden, width = own[f"{heads.INSIDE[kind]}fc1.weight"].shape
    module = ChunkHead(hidden, heads.count_blocks(own)).build(width, actions)
    fill(module, own, lambda name: renamed(name, names), where="action_head", whole="head")
    return module


def _map(own: Mapping[str, Tensor]) -> Any:
    module = Projector(2).build(own["fc1.weight"].shape[1], len(own["fc1.weight"]))
    fill(module, own, lambda name: renamed(name, heads.MAP), where="projector", whole="map")
    return module


def _block(own: Mapping[str, Tensor], count: int) -> Any:
    """The stream of a tower of one block."""
    network = VisionTower(
        0, width=len(own["block.norm1.weight"]), layers=1, heads=Heads(count),
        feedforward=DenseMlp(len(own["block.mlp.fc1.weight"]), "gelu"), norm=LayerNorm(1e-6), class_token=False,
        post_norm=False, pool="none", layer_scale=1.0, film=own["scale.weight"].shape[1],
    )  # fmt: skip
    stream = network.build().stream
    whole = Checkpoint(
        {layout.canonical(f"featurizer.blocks.0.{name}"): value for name, value in own.items()}, "film_block"
    )
    towers.pack(whole, network, "featurizer.")
    names = towers.tower(network)
    fill(stream, whole.tensors, lambda name: f"featurizer.{names.foreign('stream.' + name)}", where="film_block")
    return stream
