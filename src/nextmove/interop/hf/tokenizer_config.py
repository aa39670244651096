"""What a folder of transformers says of its tokenizer beside the tokenizer's own file, and of its model's tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError, read_object

FILES = ("tokenizer_config.json", "special_tokens_map.json")
NAMES = ("bos_token", "eos_token", "pad_token")
SHARE, ROUNDED = 0.1, 512
"""Ids of a model that its tokenizer may lack, as a share or a number: tables of embeddings are rounded up."""
OLD_CLIP = 2
"""The id that configs of published CLIP models give in place of the one that ends a text."""


@dataclass(frozen=True)
class TokenizerConfig:
    """tokenizer_config.json, or special_tokens_map.json where that is absent."""

    kind: str = ""
    """Class of transformers, without its ending."""
    values: Mapping[str, Any] = field(default_factory=dict)
    added: Mapping[int, AddedToken] = field(default_factory=dict)
    """Tokens beside those of the tokenizer's own file, by id."""
    special: Mapping[str, str] = field(default_factory=dict)
    """Tokens by their role."""

    def flag(self, name: str, default: bool) -> bool:
        """A setting that is true or false."""
        found = self.values.get(name)
        return default if found is None else bool(found)


def read_config(folder: Path) -> TokenizerConfig:
    """What the folder says; nothing where it has none of the files. Raises ConfigError naming a file that is wrong."""
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    values = {} if path is None else read_object(path)
    extra = folder / "added_tokens.json"
    try:
        added = {int(i): _token(one) for i, one in (values.get("added_tokens_decoder") or {}).items()}
        if not added and extra.is_file():
            added = {int(i): AddedToken(name, normalized=False) for name, i in read_object(extra).items()}
        special = {name: _text(values[name]) for name in NAMES if values.get(name)}
    except (TypeError, KeyError, AttributeError, ValueError) as problem:
        raise ConfigError(f"{path or extra}: expected tokens with their ids, found {problem!r}") from None
    kind = str(values.get("tokenizer_class") or "").removesuffix("Fast").removesuffix("Tokenizer")
    return TokenizerConfig(kind, values, added, special)


def check_matches(codec: Tokenizer, config: TokenizerConfig, folder: Path, classes: int) -> None:
    """Raises ConfigError where a tokenizer is another model's: by its number of ids, or its special tokens' ids.

    Compared with the model's config.json and generation_config.json, where they are there and name ids.
    """
    count = codec.backend.get_vocab_size(with_added_tokens=True)
    if classes - count > max(ROUNDED, SHARE * classes):
        raise ConfigError(
            f"{folder}: expected a tokenizer of about the {classes} ids of the model, found one of {count}; it is "
            "another model's"
        )
    for name in NAMES[:2]:
        asked = _ids(folder, f"{name}_id", classes)
        token = config.special.get(name)
        if not asked or token is None or (name == "eos_token" and config.kind == "CLIP" and OLD_CLIP in asked):
            continue
        if config.kind == "CLIP" and asked == {0}:
            continue  # the other half of what old configs say
        found = codec.backend.token_to_id(token)
        if found not in asked:
            ids = " or ".join(map(str, sorted(asked)))
            raise ConfigError(
                f"{folder}: {name}: the model's config says id {ids}, and {token!r} of the tokenizer is {found}; it is "
                "another model's"
            )


def _ids(folder: Path, key: str, classes: int) -> set[int]:
    """Ids that the model's files give a token, those beyond its vocabulary (defaults of classes) left out."""
    found: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        if (folder / name).is_file():
            values = read_object(folder / name)
            inner = values.get("text_config")
            for part in (values, inner if isinstance(inner, dict) else {}):
                value = part.get(key)
                ids = value if isinstance(value, list) else [value]
                found |= {i for i in ids if isinstance(i, int) and not isinstance(i, bool) and 0 <= i < classes}
    return found


def _token(value: Any) -> AddedToken:
    if isinstance(value, str):
        return AddedToken(value, normalized=False)
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(str(value["content"]), **{name: bool(value[name]) for name in names if name in value})


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value["content"])
