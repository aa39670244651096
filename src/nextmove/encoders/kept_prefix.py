"""The part of a prefix that a frozen encoder makes, kept by whoever asks for it and taken up again in training.

What is kept are keys and values of pictures and words. A state whose token stands last is seen by none of them, so it
is read behind them each time, and what makes a token of it may be trained (SmolVLA).

Shapes: B batch, P tokens, L layers, G heads of keys and values, E their width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nextmove.contracts import TASK, Context, KeyValue, Memory
from nextmove.encoders.reading import Reading, ReadingEncoder
from nextmove.nn.mask import CAUSAL, block_mask

PREFIX = "prefix"
"""What a batch holds in place of pictures: `keys` and `values` (B, L, G, P, E), and `mask` (B, P)."""


def reads_state_last(config: Reading) -> bool:
    """Whether the state's token is read behind what is kept."""
    return config.state == "token" and config.state_place == "last"


def trains_alone(name: str, config: Reading) -> bool:
    """Whether a parameter of the encoder, by its name there, has no part in what is kept."""
    return reads_state_last(config) and name.startswith("state.")


@torch.no_grad()
def made(encoder: ReadingEncoder, inputs: Mapping[str, Any], batch: int) -> dict[str, Tensor]:
    """What is kept of observations; raises ValueError for an encoder that does not read them."""
    config = encoder.config
    if not config.read:
        raise ValueError("encoder.read: expected a language model that reads the prefix by itself, found it off")
    seen = encoder.pictures(inputs, batch)
    state = encoder.shown(inputs)
    words = config.state == "words"
    ids, mask = config.prompt.ids(encoder.tokenizer, config.prompt.texts(inputs[TASK], state if words else None))
    x, valid, block = encoder.embedded(seen, ids, mask, None if words else state)
    if reads_state_last(config):
        x, valid, block = x[:, :-1], valid[:, :-1], None
    sight: Any = CAUSAL if config.order == "causal" else None if block is None else block_mask(valid, block)
    padded = None if bool(valid.all()) else valid
    _, memory = encoder.language.read_embedded(x, Context.empty(batch), mask=sight, valid=padded)
    layers = [layer for layer in memory.layers if layer is not None]
    keys, values = (torch.stack([getattr(layer, part) for layer in layers], 1) for part in ("keys", "values"))
    return {"keys": keys, "values": values, "mask": valid}


def resumed(encoder: ReadingEncoder, inputs: Mapping[str, Any]) -> Context:
    """The context of observations with `PREFIX` in place of pictures: that of the whole prefix."""
    config, kept, like = encoder.config, inputs[PREFIX], encoder.language.embedding.weight
    keys, values = (kept[part].to(like).unbind(1) for part in ("keys", "values"))
    valid = kept["mask"].to(like.device)
    memory = Memory(tuple(map(KeyValue, keys, values)), None if bool(valid.all()) else valid, valid.sum(1))
    state = None if config.state == "words" else encoder.shown(inputs)
    if reads_state_last(config):
        assert encoder.state is not None
        assert state is not None
        token = encoder.state(state.to(next(encoder.state.parameters())))[:, None].to(like)
        _, memory = encoder.language.read_embedded(token, Context.empty(len(token)), memory)
    return Context(len(valid), state if config.state == "vector" else None, memory=memory)
