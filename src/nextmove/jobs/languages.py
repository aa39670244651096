"""Language models to begin with or to talk to: by the name of a package, a GGUF file, or a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch import nn

from nextmove import store
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError
from nextmove.folders import Saved, open_folder
from nextmove.models.generator import Generator, TextSpec
from nextmove.nn.gpt import GptNet
from nextmove.weights import checksum

LANGUAGE = "language"
"""The slot of a model's language part: `--from language=SOURCE`."""


def language_folder(source: Path | str) -> Saved:
    """Whose language model it is; raises FileNotFoundError, or ConfigError that says what to install."""
    return open_folder(source).expect("generator")


def read_language(source: Path | str, packed: bool = False) -> Generator:
    """A language model, in evaluation mode; the licence of one that comes in a package is shown.

    packed: as of `Saved.foreign`.

    Raises as `language_folder`, and ConfigError (a ValueError) for one that is damaged, or no model of text.
    """
    saved = language_folder(source)
    if saved.notice:
        print(saved.notice, file=sys.stderr)
    model: Any = store.load(saved.folder) if saved.kind == "nextmove" else saved.foreign(packed=packed).model
    if not isinstance(model, Generator) or not isinstance(model.spec, TextSpec):
        raise ConfigError(f"{source}: expected a language model, found {saved.whose}")
    return model


def speaking(recipe: Any, language: Generator, source: Path | str) -> Any:
    """The recipe around a language model's network, with the words that it was trained on.

    Raises ConfigError for a recipe without one, and for a network of another kind.
    """
    trunk = language.tokens.config.trunk
    if not isinstance(language.tokens.net, GptNet) or language.tokens.config.start:
        raise ConfigError(f"--from language={source}: expected a transformer without a start symbol, found another")
    if not hasattr(recipe, "speaking"):
        raise ConfigError(f"--from language={source}: {type(recipe).__name__} has no language model to begin with")
    codec = language.text
    chat = isinstance(codec, Tokenizer) and codec.backend.token_to_id("<|im_start|>") is not None
    return recipe.speaking(trunk, chat)


def begin_language(model: nn.Module, language: Generator, source: Path | str) -> str:
    """Gives a model's language part the weights of a language model; a hash of the file they are of.

    Raises ConfigError for parts that are not built alike.
    """
    part: Any = model.get_submodule("decoder.net.language")
    found = language.tokens.net.state_dict()
    own = {name for name in part.state_dict() if ".gated." not in name and ".adapter" not in name}
    if own != set(found):
        other = min(own ^ set(found))
        raise ConfigError(f"--from language={source}: {other}: expected in both language models, found in one")
    part.load_state_dict(found, strict=False)
    print(f"language: begins with the weights of {source}")
    path = language_folder(source).folder
    return checksum(path) if path.is_file() else str(store.weights_hash(path))
