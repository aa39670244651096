"""A folder of a language model to a decoder of our parts.

Letters: B batch, L ids, K classes, P ids of the prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextmove.config import ConfigError
from nextmove.contracts import Context, ContextSpec, Known, Rng
from nextmove.decoders import Autoregressive
from nextmove.decoders.autoregressive import AutoregressiveDecoder
from nextmove.interop.hf import gpt2, llama
from nextmove.interop.hf.config import expect
from nextmove.interop.hf.family import Family
from nextmove.interop.hf.tensors import Checkpoint, read_folder
from nextmove.interop.report import Report
from nextmove.interop.weights import fill, naming, read_json
from nextmove.weights import check_filled, without_storage

FAMILIES: dict[str, Callable[[Mapping[str, Any]], Family]] = {"gpt2": gpt2.family, "llama": llama.family}


@dataclass(frozen=True)
class Language:
    """A language model made of our parts with another project's weights, in evaluation mode, and how it was read."""

    decoder: AutoregressiveDecoder
    report: Report
    config: Any
    """The foreign configuration, checked."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Tensor names of the file -> names in `decoder.state_dict()`; packed ones share theirs."""

    def logits(self, ids: Tensor) -> Tensor:
        """(B, L, K) of the id after each of ids (B, L)."""
        return self.decoder.net(ids, Context.empty(len(ids)), None)[0]

    def generate(
        self, prompt: Tensor, mask: Tensor | None = None, *, new: int, rng: Rng, pad: int = 0, **options: Any
    ) -> Tensor:
        """ids (B, P + new): the prompts and `new` ids after each; options as of the decoder's `sample`.

        prompt: ids (B, P); mask (B, P) bool, False = padding, which may stand on the left only and is kept. An id's
        position is the number of real ones before it.
        """
        batch, length = prompt.shape
        mask = torch.ones_like(prompt, dtype=torch.bool) if mask is None else mask.bool()
        if bool((mask[:, :-1] & ~mask[:, 1:]).any()):
            raise ValueError("mask: expected padding on the left only, found it after a real id")
        spared = int((length - mask.sum(1)).min())
        front, prompt, length = prompt[:, :spared], prompt[:, spared:], length - spared
        # Every row starts at 0, so that none needs a mask: the shorter ones are cut where they have their new ids.
        skipped = length - mask[:, spared:].sum(1)
        place = torch.arange(length + new, device=prompt.device) + skipped[:, None]
        value = torch.nn.functional.pad(prompt, (0, new)).gather(1, place.clamp(max=length + new - 1))
        known = Known(value, (place < length).float())
        made = self.decoder.sample(
            Context.empty(batch), shape=(length + new,), rng=rng, known=known, pad=pad, **options
        )
        back = torch.arange(length + new, device=prompt.device) - skipped[:, None]
        whole = made.gather(1, back.clamp(min=0))
        return torch.cat([front, prompt, whole[:, length:]], 1)


def load(folder: Path | str, *, dtype: torch.dtype | None = torch.float32) -> Language:
    """The model of a folder with config.json and model.safetensors, whole or in shards.

    dtype: of the weights, and so of what is computed; None: as the file has them, at half the memory for bf16.
    Raises FileNotFoundError, or ConfigError (a ValueError) naming the key or tensor that is wrong.
    """
    with naming(Path(folder)):
        return _load(Path(folder), dtype)


def _load(folder: Path, dtype: torch.dtype | None) -> Language:
    data = read_json(folder / "config.json")
    kind = data.get("model_type")
    expect("model_type", kind, *FAMILIES)
    family = FAMILIES[str(kind)](data)
    decoder = Autoregressive(family.trunk, classes=family.classes, start=False)
    try:
        with without_storage():
            built = decoder.build(shape=(family.length,), context=ContextSpec())
    except ValueError as problem:
        raise ConfigError(f"config.json: {problem}") from None
    checkpoint = Checkpoint(read_folder(folder, dtype), str(folder))
    family.pack(checkpoint, family.config)
    names = fill(built.net, checkpoint.tensors, family.foreign, where=str(folder), dtype=dtype)
    check_filled(built, str(folder))
    used = {name: f"net.{ours}" for name, ours in checkpoint.used(names).items()}
    notes = (f"config.json: no effect on the logits: {', '.join(family.aside)}",) if family.aside else ()
    version = str(data.get("transformers_version", "no version"))
    report = Report(family.name, f"transformers {version}", tuple(used), checkpoint.ignored, (), notes)
    return Language(built.eval(), report, family.config, used)
