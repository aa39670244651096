"""pi0-FAST: embedded prefix and ids, who sees whom, logits and loss of ids, the likeliest with a memory and without.

Shapes: B batch, L ids, P tokens of the prefix, W width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from benchmarks.parity.answers import Answers
from benchmarks.parity.gradients import named
from benchmarks.parity.pi import IN, WORDS, sizes
from benchmarks.parity.sight import joint, masks, padding, placed, watched
from torch import Tensor
from torch.nn import functional as F

from nextmove.codecs.fast import Fast
from nextmove.contracts import Context, ContextSpec, seeded
from nextmove.decoders import Autoregressive
from nextmove.decoders.sampling import Sampling
from nextmove.encoders.reading import ReadingEncoder
from nextmove.interop import pi_fast
from nextmove.interop.pi_fast.composed import Places
from nextmove.nn.continued import Continued, follow
from nextmove.nn.mask import block_mask


def answers(folder: Path, io: Mapping[str, Tensor]) -> Answers:
    """What a case records; its actions are ids of the whole vocabulary."""
    case = json.loads((folder / "case.json").read_text())
    absent = [camera["key"] for camera in case["cameras"] if not camera["present"]]
    # The case's vocabulary has no place for ids of actions, and it has no tokenizer of them.
    places = Places(0, (case["bos_id"],), case["bar_id"])
    fast = {"fast": Fast(vocabulary=1), "places": places}

    def read(where: Path) -> Any:
        return pi_fast.load(where, sizes=sizes(case["sizes"]), optional=absent, scaled=True, **fast)

    loaded = read(folder)
    encoder: Any = loaded.policy.encoder
    assert isinstance(encoder, ReadingEncoder)
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        shown = _shown(encoder, io, found)
        _trained(encoder, shown, io, found)
        texts = _written(encoder, shown, case, io, found)

    def loss() -> Tensor:
        made: dict[str, Tensor] = {}
        _trained(encoder, shown, io, made)
        return made["loss"]

    found |= named(loaded.policy, folder, loss, io, lambda where: read(where).policy)
    return Answers(found, texts=texts, report=loaded.report)


Shown = tuple[list[tuple[Tensor, Tensor | None]], Tensor, Tensor]


def _shown(encoder: ReadingEncoder, io: Mapping[str, Tensor], found: dict[str, Tensor]) -> Shown:
    """Pictures and words as the encoder reads them."""
    pictures: list[tuple[Tensor, Tensor | None]] = []
    side = encoder.config.towers[0].image
    for name in encoder.cameras:
        if IN + name in io:
            pictures.append((encoder.config.framed(io[IN + name].movedim(1, -1), side), None))
    real = torch.stack([picture for picture, _ in pictures], 1) * 2 - 1
    blank = real.new_full((len(real), len(encoder.cameras) - len(pictures), *real.shape[2:]), -1)
    found["out.images"] = torch.cat([real, blank], 1)
    return pictures, io[WORDS + "tokens"], io[WORDS + "attention_mask"]


def _trained(encoder: ReadingEncoder, shown: Shown, io: Mapping[str, Tensor], found: dict[str, Tensor]) -> None:
    """Embeddings, logits and loss of the case's ids, where they are no padding."""
    ids, real = io["in.action.tokens"], io["in.action.token_mask"]
    x, valid, _ = encoder.embedded(*shown)
    own, language = encoder.language.embed(ids), encoder.language
    pictures, words, mask = shown
    there = masks(pictures, len(encoder.cameras), len(ids))
    each = (x.shape[1] - words.shape[1]) // len(pictures)
    places = padding(there, each, (0, 0), [mask.bool(), real.bool()])
    found |= {"out.image_masks": there.float(), "out.pad_masks": places.float()}
    found["out.embs"] = io["out.embs"].clone()
    found["out.embs"][places] = torch.cat([x, own], 1)[torch.cat([valid, real], 1)]
    with watched(language.stream) as calls:
        h, _ = language.read_embedded(own, Context.empty(len(ids)), encoder.prefix(*shown).memory, valid=real)
    whole = torch.cat([valid, real], 1)
    keys, positions = placed(joint(calls[0], calls[1]), whole, places, io["out.position_ids"])
    found |= {"out.attention_mask": keys, "out.position_ids": positions}
    logits = language.logits(h)
    found["out.logits"] = torch.where(real[..., None], logits, io["out.logits"])
    errors = F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    found["loss"] = (errors * real[:, 1:]).sum() / real[:, 1:].sum()


def _written(
    encoder: ReadingEncoder, shown: Shown, case: Mapping[str, Any], io: Mapping[str, Tensor], found: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The likeliest ids (B, L), zeros where all rows have written the end."""
    steps, count = case["decode_steps"], encoder.language.classes
    config = Autoregressive(Continued(lead=(case["bos_id"],)), classes=count, sampling=Sampling(temperature=0.0))
    decoder = config.build(shape=(steps,), context=ContextSpec())
    follow(decoder, encoder.language)
    ctx = encoder.prefix(*shown, ahead=True)
    start = torch.full((ctx.batch, 1), count)
    net: Any = decoder.net
    found["out.generated_first_logits"] = net.last(start, ctx, None)[0][:, -1]
    made, ended = torch.zeros(ctx.batch, steps, dtype=torch.long), torch.zeros(ctx.batch, dtype=torch.bool)
    for i, drawn in enumerate(decoder.stream(ctx, shape=(steps,), rng=seeded(0))):
        made[:, i] = drawn
        ended |= drawn == case["bar_id"]
        if bool(ended.all()):
            break
    return {"out.generated": made, "out.generated_no_cache": _anew(encoder, shown, case, steps)}


def _anew(encoder: ReadingEncoder, shown: Shown, case: Mapping[str, Any], steps: int) -> Tensor:
    """The same without a memory: all that is there is read again for each id."""
    x, valid, _ = encoder.embedded(*shown)
    ids = torch.full((len(x), 1), case["bos_id"])
    for _ in range(steps):
        whole = torch.cat([x, encoder.language.embed(ids)], 1)
        seen = torch.cat([valid, torch.ones_like(ids, dtype=torch.bool)], 1)
        block = (torch.arange(whole.shape[1]) - x.shape[1]).clamp(min=0)
        h, _ = encoder.language.read_embedded(
            whole, Context.empty(len(x)), mask=block_mask(seen, block), positions=seen.cumsum(1) - 1
        )
        ids = torch.cat([ids, encoder.language.logits(h[:, -1:]).argmax(-1)], 1)
    return ids[:, 1:]
