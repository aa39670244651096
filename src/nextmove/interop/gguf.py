"""Language models in GGUF files (llama.cpp): read as the model of transformers that the file was made from.

The metadata become a config.json and the tensors get the names of transformers, so that families, shapes and checks are
those of `interop.hf`. What the converter of llama.cpp has done is undone: it turns the rows of Llama's queries and keys
for rotations of neighbouring pairs, and stores Gemma's gains with the 1 that is added to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove.codecs.gguf_words import gguf_tokenizer
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError, nearest
from nextmove.interop.hf.language import Language, assemble
from nextmove.interop.weights import naming
from nextmove.nn.quantised import keep_packed
from nextmove.weights.gguf import Gguf, read_gguf
from nextmove.weights.packed import Packed

WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    **{f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"},
    "attn_output": "self_attn.o_proj",
    **{f"ffn_{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")},
}
LAYER2 = LAYER | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
LAYER3 = LAYER2 | {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
SIZES = {
    "num_hidden_layers": "block_count",
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
}
WIDE = {"gemma2": 46, "gemma3": 62}
"""Layers of the models whose scores are scaled by the width of the model a head, not by that of a head (27B)."""


@dataclass(frozen=True)
class Architecture:
    """How the files of one of llama.cpp's architectures are read."""

    family: str
    """transformers' model_type."""
    layer: Mapping[str, str]
    """Name of a tensor of a layer -> transformers' name."""
    pairs: bool = False
    """Whether queries and keys are stored for rotations of neighbouring pairs."""
    gains: bool = False
    """Whether gains are stored with 1 added to them."""


ARCHITECTURES = {
    "llama": Architecture("llama", LAYER, pairs=True),
    "qwen2": Architecture("qwen2", LAYER),
    "gemma": Architecture("gemma", LAYER, gains=True),
    "gemma2": Architecture("gemma2", LAYER2, gains=True),
    "gemma3": Architecture("gemma3_text", LAYER3, gains=True),
}


@dataclass(frozen=True)
class File:
    """A file, and its content in transformers' terms."""

    gguf: Gguf
    config: Mapping[str, Any]
    """A config.json."""
    names: Mapping[str, str]
    """transformers' names -> names in the file."""

    @property
    def architecture(self) -> Architecture:
        """How it is read."""
        return ARCHITECTURES[self.gguf.metadata["general.architecture"]]

    def packed(self, name: str) -> Packed:
        """A tensor as the file packs it, by transformers' name; rows are in transformers' order."""
        found = self.gguf.tensors[self.names[name]]
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
        return found.rows(_halves(found.shape[0], self.config[heads])) if heads and self.architecture.pairs else found

    def tensor(self, name: str, dtype: torch.dtype | None = torch.float32) -> Tensor:
        """A tensor by transformers' name, unpacked; dtype None: bfloat16 for bf16, float16 for f16, else float32."""
        found = self.packed(name)
        plain = {"F16": torch.float16, "BF16": torch.bfloat16}
        values = found.values(plain.get(found.kind, torch.float32) if dtype is None else dtype)
        return values - 1 if self.architecture.gains and name.endswith("norm.weight") else values


def load(path: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Language:
    """The model of a file, its weights unpacked; dtype as of `interop.hf.load`.

    Raises FileNotFoundError, or ConfigError (a ValueError) naming the key or tensor that is wrong.
    """
    file = open_file(path)
    return _assembled(file, {name: file.tensor(name, dtype) for name in file.names}, dtype)


def load_packed(path: Path | str) -> tuple[Language, dict[str, tuple[Packed, ...]]]:
    """The model without its matrices (they are on the meta device), and these as the file packs them.

    They go by the names of the decoder's parameters; one that our network packs of several (queries, keys and values;
    gates and units) has these in the order of its rows, each in a format of its own. Raises as `load`.
    """
    file = open_file(path)
    matrices = {name for name in file.names if len(file.gguf.tensors[file.names[name]].shape) > 1}
    tensors = {
        name: torch.empty(file.gguf.tensors[own].shape, device="meta") if name in matrices else file.tensor(name)
        for name, own in file.names.items()
    }
    language = _assembled(file, tensors, torch.float32)
    kept: dict[str, tuple[Packed, ...]] = {}
    for name, ours in language.names.items():
        if name in matrices:
            kept[ours] = (*kept.get(ours, ()), file.packed(name))
    return language, kept


def load_kept(path: Path | str) -> tuple[Language, int]:
    """The model with its matrices kept as packed and unpacked at every use, and the bytes they take; raises as `load`.

    A runtime (`runtime.compiled`) unpacks them once, into the precision it computes in.
    """
    language, packed = load_packed(path)
    return language, keep_packed(language.decoder, packed)


def open_file(path: Path | str) -> File:
    """A file in transformers' terms; raises as `load`."""
    gguf = read_gguf(path)
    kind = gguf.get("general.architecture", str)
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ConfigError(f"{path}: general.architecture: expected one of {known}, found {kind!r}")
    names = {_named(gguf, name, ARCHITECTURES[kind].layer): name for name in gguf.tensors}
    return File(gguf, _config(gguf, kind), names)


def _assembled(file: File, tensors: dict[str, Tensor], dtype: torch.dtype | None) -> Language:
    gguf = file.gguf
    ends = [gguf.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
    kinds = ", ".join(f"{count} {kind}" for kind, count in gguf.kinds.items())
    with naming(gguf.path):
        return assemble(
            file.config,
            lambda: tensors,
            where=str(gguf.path),
            words=lambda classes: _words(gguf, classes),
            stop=sorted({int(i) for i in ends if i is not None}),
            version=f"GGUF {gguf.version}, {gguf.metadata.get('general.name', 'no name')}: {kinds}",
            dtype=dtype,
        )


def _words(gguf: Gguf, classes: int) -> Tokenizer:
    if "tokenizer.ggml.model" not in gguf.metadata:
        return Tokenizer.absent(classes)
    try:
        return Tokenizer(gguf_tokenizer(gguf.metadata).text, classes=classes)
    except ValueError as problem:
        raise ConfigError(f"{gguf.path}: {problem}") from None


def _halves(rows: int, heads: int) -> Tensor:
    """The file's row for each of transformers': of a head first the even ones, then the odd."""
    return torch.arange(rows).view(heads, -1, 2).mT.flatten()


def _named(gguf: Gguf, name: str, layer: Mapping[str, str]) -> str:
    """transformers' name of a tensor."""
    stem, _, kind = name.rpartition(".")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{kind}"
    parts = stem.split(".")
    if len(parts) == 3 and parts[0] == "blk" and parts[1].isdecimal() and parts[2] in layer:
        return f"model.layers.{parts[1]}.{layer[parts[2]]}.{kind}"
    known = [*WHOLE, *(f"blk.0.{part}" for part in layer)]
    raise ConfigError(f"{gguf.path}: tensor {name!r} belongs to no part of the model{nearest(stem, known)}")


def _config(gguf: Gguf, kind: str) -> dict[str, Any]:
    """A config.json."""

    def get(key: str, types: type | tuple[type, ...] = int, default: Any = None) -> Any:
        return gguf.get(f"{kind}.{key}", types, default)

    found = {ours: get(key) for ours, key in SIZES.items()}
    heads, width = found["num_attention_heads"], found["hidden_size"]
    head = get("attention.key_length", int, width // max(heads, 1))
    if (turned := get("rope.dimension_count", int, head)) != head:
        raise ConfigError(
            f"{gguf.path}: {kind}.rope.dimension_count: expected the width of a head {head}, found {turned}"
        )
    scaling = get("rope.scaling.type", str, "none")
    found |= {
        "model_type": ARCHITECTURES[kind].family,
        "num_key_value_heads": get("attention.head_count_kv", int, heads),
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon", float),
        "vocab_size": gguf.tensors["token_embd.weight"].shape[0] if "token_embd.weight" in gguf.tensors else 0,
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "rope_theta": get("rope.freq_base", float, 10000.0),
    }
    if scaling != "none":
        found["rope_scaling"] = {"rope_type": scaling, "factor": get("rope.scaling.factor", float)}
    found |= {"head_dim": head} if kind != "qwen2" else {}
    if kind in WIDE:
        wide = found["num_hidden_layers"] == WIDE[kind]
        found |= {
            "sliding_window": get("attention.sliding_window"),
            "query_pre_attn_scalar": width // heads if wide else head,
            "attn_logit_softcapping": get("attn_logit_softcapping", float, 50.0) if kind == "gemma2" else None,
            "final_logit_softcapping": get("final_logit_softcapping", float, 30.0) if kind == "gemma2" else None,
        }
    return found
