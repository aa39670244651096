"""Policies whose language model reads words by a tokenizer's file: `nextmove train pi0 ... --tokenizer FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError

LEAST = 0.9
"""Share of a published model's ids that its tokenizer has at least."""


def read_words(recipe: Any, source: Path | str) -> Tokenizer:
    """The tokenizer of a file or folder, of as many ids as a recipe of published sizes has.

    Raises ConfigError for a recipe that takes none and for another model's tokenizer, FileNotFoundError for no file.
    """
    where = f"--tokenizer {source}"
    if not hasattr(recipe, "worded"):
        raise ConfigError(f"{where}: {type(recipe).__name__} takes none; pi0, pi05, pi0-fast and smolvla do")
    # Other projects' layouts are imported by who names a file of theirs.
    from nextmove.interop.hf.words import open_tokenizer
    from nextmove.interop.pi.words import trimmed

    words = open_tokenizer(source)
    encoder = recipe.encoder
    if not encoder.prompt.classes:
        return words
    try:
        found = Tokenizer(trimmed(words.text, encoder.ids), classes=encoder.ids)
    except ValueError as problem:
        raise ConfigError(f"{where}: {problem}") from None
    if words.classes < LEAST * encoder.ids:
        raise ConfigError(f"{where}: expected the {encoder.ids} ids of the published size, found {words.classes}")
    return found


def worded(recipe: Any, words: Tokenizer, source: Path | str) -> Any:
    """The recipe with these words; raises ConfigError for a tokenizer that does not suit it."""
    try:
        return recipe.worded(words)
    except ValueError as problem:
        raise ConfigError(f"--tokenizer {source}: {problem}") from None


def begin_words(policy: nn.Module, words: Tokenizer, source: Path | str) -> str:
    """Gives a policy its tokenizer; the hash of that file's content."""
    policy.get_submodule("encoder").tokenizer.adopt(words)  # type: ignore[operator, union-attr]
    print(f"words: read by the {words.classes} ids of {source}")
    return words.hash
