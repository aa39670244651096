"""Sentence encoders that read a policy's instructions: their weights come from a package or a folder, never trained."""

from __future__ import annotations

from torch import nn

from nextmove.config import ConfigError
from nextmove.encoders.sentence import SentenceEncoder


def begin_sentences(model: nn.Module) -> dict[str, str | None]:
    """Gives the sentence encoders of a new model the weights and words of their source; their sources by path.

    Raises ConfigError that says what to install, or for an encoder of another size.
    """
    found: dict[str, str | None] = {}
    for name, part in model.named_modules():
        if isinstance(part, SentenceEncoder):
            from nextmove.interop.hf import sentences

            read = sentences.load(part.config.source).model
            try:
                part.begin(read.net, read.codec)
            except ValueError as problem:
                raise ConfigError(f"instruction: {problem}") from None
            print(f"{name}: reads instructions by {part.config.source}, frozen")
            found[name] = part.config.source
    return found
