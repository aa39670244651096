"""The tokenizer of a language model's folder, and the ids that end a text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nextmove.codecs.byte_level import bpe
from nextmove.codecs.tokenizer import FILE, Tokenizer
from nextmove.config import ConfigError, read_object


def read_tokenizer(folder: Path, classes: int) -> Tokenizer:
    """The tokenizer of `tokenizer.json`, or of GPT-2's vocab.json and merges.txt; one that is absent where none is.

    Raises ConfigError naming the file for one that is damaged or has more ids than the model's `classes`.
    """
    if (folder / FILE).is_file():
        return Tokenizer.open(folder, classes=classes)
    table, pairs = folder / "vocab.json", folder / "merges.txt"
    if not (table.is_file() and pairs.is_file()):
        return Tokenizer.absent(classes)
    ids = read_object(table)
    vocabulary = sorted(ids, key=lambda token: int(ids[token]))
    lines = pairs.read_text(encoding="utf-8").splitlines()
    merges = [line for line in lines if line and not line.startswith("#version")]
    try:
        if [ids[token] for token in vocabulary] != list(range(len(vocabulary))):
            raise ValueError("expected ids 0, 1, 2 ..., found others")
        return Tokenizer(bpe(vocabulary, merges).text, classes=classes)
    except ValueError as problem:
        raise ConfigError(f"{table}: {problem}") from None


def stop_ids(folder: Path, config: Mapping[str, Any]) -> tuple[int, ...]:
    """The ids that end a text: those of generation_config.json, else of config.json."""
    path = folder / "generation_config.json"
    own = read_object(path) if path.is_file() else {}
    found = own.get("eos_token_id", config.get("eos_token_id"))
    return tuple(found) if isinstance(found, list) else () if found is None else (int(found),)
