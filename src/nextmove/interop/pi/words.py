"""PaliGemma's tokenizer for a language model of fewer ids: tokens for places in an image are no words."""

from __future__ import annotations

import json
from pathlib import Path

from nextmove.codecs.tokenizer import FILE, Tokenizer
from nextmove.config import ConfigError, read_object


def tokenizer(folder: Path, ids: int) -> Tokenizer:
    """That of a folder with `ids` ids, absent where there is none.

    Added tokens behind them are left out: PaliGemma's `<image>` is one behind the table of pi0. Raises ConfigError for
    a vocabulary that is larger by more than that.
    """
    file = folder / FILE
    if not file.is_file():
        return Tokenizer.absent(ids)
    read_object(file)
    try:
        return Tokenizer(trimmed(file.read_text(encoding="utf-8"), ids), classes=ids)
    except ValueError as problem:
        raise ConfigError(f"{file}: {problem}") from None


def trimmed(text: str, ids: int) -> str:
    """A tokenizer.json without the added tokens behind the first `ids`."""
    data = json.loads(text)
    beyond = [token for token in data.get("added_tokens", ()) if token["id"] >= ids]
    if not beyond:
        return text
    data["added_tokens"] = [token for token in data["added_tokens"] if token["id"] < ids]
    vocabulary = data.get("model", {}).get("vocab")
    if isinstance(vocabulary, dict):
        names = {token["content"] for token in beyond}
        data["model"]["vocab"] = {name: i for name, i in vocabulary.items() if not (i >= ids and name in names)}
    return json.dumps(data)
