"""What writes the same text from the same weights: ours by torch, OpenVINO and packed, transformers, llama.cpp.

Each writes the likeliest ids after a prompt and says how long it read and how long it wrote. Units: seconds.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove.contracts import seeded
from nextmove.decoders.sampling import Sampling
from nextmove.interop import gguf
from nextmove.runtime import compiled, packed

Written = dict[str, Any]
Engine = Callable[[list[int], int], Written]
GREEDY = Sampling(0.0)


def ours(model: Any) -> Engine:
    """A generator of ours."""

    def write(prompt: list[int], new: int) -> Written:
        begin = time.perf_counter()
        ids, first = [], 0.0
        for row in model.stream(torch.tensor([prompt]), new=new, rng=seeded(0), sampling=GREEDY, stop=()):
            ids.append(int(row))
            first = first or time.perf_counter()
        return {"ids": ids, "read": first - begin, "written": time.perf_counter() - first}

    return write


def transformers(model: Any) -> Engine:
    """A model of transformers by its `generate`."""

    class Clock:
        """Called with the prompt, then with each id."""

        def __init__(self) -> None:
            self.at: list[float] = []

        def put(self, _: Tensor) -> None:
            """Remembers when."""
            self.at.append(time.perf_counter())

        def end(self) -> None:
            """Nothing is left to do."""

    def write(prompt: list[int], new: int) -> Written:
        ids, clock = torch.tensor([prompt]), Clock()
        mask = torch.ones_like(ids)
        begin = time.perf_counter()
        found = model.generate(
            ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0,
            streamer=clock,
        )  # fmt: skip
        return {
            "ids": found[0, len(prompt) :].tolist(),
            "read": clock.at[1] - begin,
            "written": clock.at[-1] - clock.at[1],
        }

    return write


def engine(name: str, loaded: Any, file: Path) -> tuple[Engine, dict[str, Any]]:
    """An engine with a model's weights, ready to write, and the seconds that this took.

    Names: torch, packed, which reads the file itself, openvino-PRECISION, transformers-float32 or -bf16.
    """
    kind, _, precision = name.partition("-")
    begin = time.perf_counter()
    model = gguf.load_kept(file)[0].model if kind == "packed" else copy.deepcopy(loaded)
    write = written_by(kind, precision, model)
    write([1, 2], 2)
    return write, {"ready_seconds": time.perf_counter() - begin}


def alone(name: str, file: Path) -> Engine:
    """An engine that read a file by itself and holds nothing else."""
    kind, _, precision = name.partition("-")
    return written_by(kind, precision, (gguf.load_kept(file)[0] if kind == "packed" else gguf.load(file)).model)


def written_by(kind: str, precision: str, model: Any) -> Engine:
    """What writes with a model, which is changed in place."""
    if kind == "openvino":
        compiled(model, precision)
    elif kind == "packed":
        packed(model)
    return transformers(theirs(model, precision)) if kind == "transformers" else ours(model)


def theirs(model: Any, precision: str) -> Any:
    """transformers' Llama with a generator's weights."""
    import transformers as package

    trunk, net = model.tokens.config.trunk, model.tokens.net
    heads = net.stream.blocks[0].attention.heads
    config = package.LlamaConfig(
        vocab_size=net.classes, hidden_size=trunk.width, intermediate_size=trunk.feedforward.hidden,
        num_hidden_layers=trunk.layers, num_attention_heads=heads.n_heads, num_key_value_heads=heads.n_kv_heads,
        head_dim=heads.head_dim, rms_norm_eps=trunk.norm.eps, max_position_embeddings=net.length,
        rope_parameters={"rope_type": "default", "rope_theta": trunk.rotary.base}, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    found = package.LlamaForCausalLM(config).eval()
    own = dict(net.state_dict())
    state: dict[str, Tensor] = {"model.embed_tokens.weight": own["embedding.weight"]}
    state |= {"lm_head.weight": own["embedding.weight"], "model.norm.weight": own["stream.norm.weight"]}
    queries, pairs, hidden = heads.n_heads * heads.head_dim, heads.n_kv_heads * heads.head_dim, trunk.feedforward.hidden
    for i in range(trunk.layers):
        here, there = f"stream.blocks.{i}.", f"model.layers.{i}."
        for part, rows in zip(
            "qkv", own[here + "attention.in_proj_weight"].split([queries, pairs, pairs]), strict=True
        ):
            state[f"{there}self_attn.{part}_proj.weight"] = rows
        for part, rows in zip(("gate", "up"), own[here + "feedforward.up.weight"].split(hidden), strict=True):
            state[f"{there}mlp.{part}_proj.weight"] = rows
        state[there + "self_attn.o_proj.weight"] = own[here + "attention.out_proj.weight"]
        state[there + "mlp.down_proj.weight"] = own[here + "feedforward.down.weight"]
        state[there + "input_layernorm.weight"] = own[here + "attention_branch.norm.weight"]
        state[there + "post_attention_layernorm.weight"] = own[here + "feedforward_branch.norm.weight"]
    found.load_state_dict(state)
    return found.to({"float32": torch.float32, "bf16": torch.bfloat16}[precision])
