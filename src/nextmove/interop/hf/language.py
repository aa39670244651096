"""Reads a folder of a language model as a generator of our parts.

Shapes: B batch, L ids, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError, read_object
from nextmove.contracts import Context, ContextSpec
from nextmove.decoders import Autoregressive
from nextmove.decoders.autoregressive import AutoregressiveDecoder
from nextmove.interop.hf import gemma, gpt2, llama, mpt, qwen2
from nextmove.interop.hf.config import expect
from nextmove.interop.hf.family import Family
from nextmove.interop.hf.tensors import Checkpoint, read_folder
from nextmove.interop.hf.words import read_tokenizer, stop_ids
from nextmove.interop.report import Report
from nextmove.interop.weights import fill, naming
from nextmove.models.generator import Generator, TextSpec
from nextmove.weights import check_filled, without_storage

FAMILIES: dict[str, Callable[[Mapping[str, Any]], Family]] = {
    "gpt2": gpt2.family,
    "llama": llama.family,
    "qwen2": qwen2.family,
    "gemma": gemma.family,
    "gemma2": gemma.family2,
    "gemma3_text": gemma.family3,
    "mpt": mpt.family,
    "mosaic_gpt": mpt.family_mosaic,
}
"""model_type -> the network of a config.json and where its tensors go."""


@dataclass(frozen=True)
class Language:
    """A language model made of our parts with another project's weights, in evaluation mode, and how it was read."""

    model: Generator
    report: Report
    config: Any
    """The foreign configuration, checked."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Tensor names of the file -> names in `decoder.state_dict()`; packed ones share theirs."""

    @property
    def decoder(self) -> AutoregressiveDecoder:
        """The model's decoder."""
        return self.model.tokens

    def logits(self, ids: Tensor) -> Tensor:
        """(B, L, K) of the id after each of ids (B, L)."""
        return self.decoder.net(ids, Context.empty(len(ids)), None)[0]


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Language:
    """The model of a folder with config.json and model.safetensors, whole or in shards.

    dtype: of the weights, and so of what is computed; None: as the file has them, at half the memory for bf16.
    Raises FileNotFoundError, or ConfigError (a ValueError) naming the key or tensor that is wrong.
    """
    folder = Path(folder)
    with naming(folder):
        data = read_object(folder / "config.json")
        return assemble(
            data,
            lambda: read_folder(folder, dtype),
            where=str(folder),
            words=lambda classes: read_tokenizer(folder, classes),
            stop=stop_ids(folder, data),
            version=f"transformers {data.get('transformers_version', 'no version')}",
            dtype=dtype,
        )


def assemble(
    data: Mapping[str, Any],
    tensors: Callable[[], dict[str, Tensor]],
    *,
    where: str,
    words: Callable[[int], Tokenizer],
    stop: Sequence[int],
    version: str,
    dtype: torch.dtype | None = torch.float32,
) -> Language:
    """The model of a config.json's content and of tensors by the names that transformers gives them.

    Args:
        data: The content.
        tensors: Reads them; called once the content has been found to be one of `FAMILIES`. Those without storage
            (on the meta device) stay so.
        where: The file, for messages.
        words: The tokenizer of so many ids, absent where there is none.
        stop: The ids that end a text.
        version: Of what has written the file.
        dtype: Of floating tensors, None: as they are.

    Raises:
        ConfigError: naming the key or tensor that is wrong.
    """
    kind = data.get("model_type")
    expect("model_type", kind, *FAMILIES)
    family = FAMILIES[str(kind)](data)
    decoder = Autoregressive(family.trunk, classes=family.classes, start=False)
    try:
        with without_storage():
            built = decoder.build(shape=(family.length,), context=ContextSpec())
    except ValueError as problem:
        raise ConfigError(f"config.json: {problem}") from None
    checkpoint = Checkpoint(tensors(), where)
    family.pack(checkpoint, family.config)
    kept = any(value.is_meta for value in checkpoint.tensors.values())
    names = fill(built.net, checkpoint.tensors, family.foreign, where=where, dtype=dtype)
    if not kept:
        check_filled(built, where)
    used = {name: f"net.{ours}" for name, ours in checkpoint.used(names).items()}
    aside = [key for key in family.aside if key != "model_type"]
    notes = [f"config.json: no effect on the logits: {', '.join(aside)}"] if aside else []
    codec = words(family.classes)
    if not codec.files():
        notes.append("no tokenizer.json: it reads and writes ids, no text")
    spec = TextSpec("tokenizer", family.length, classes=family.classes, tokenizer=codec.hash)
    model = Generator(spec=spec, codec=codec, decoder=built, shape=(family.length,)).eval()
    model.tokens.window = family.length
    model.stop = tuple(i for i in stop if i < family.classes)
    report = Report(family.name, version, tuple(used), checkpoint.ignored, (), tuple(notes))
    return Language(model, report, family.config, used)
