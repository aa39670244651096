"""FAST's published folders: `processor_config.json` and `tokenizer.json`, as Hugging Face's processor has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nextmove.codecs.fast import Fast
from nextmove.codecs.tokenizer import FILE
from nextmove.config import ConfigError, read_object
from nextmove.host.files import write_json, write_text

CONFIG = "processor_config.json"
PEER: dict[str, Any] = {
    "clean_up_tokenization_spaces": False,
    "model_max_length": int(1e30),
    "tokenizer_class": "PreTrainedTokenizerFast",
}
"""`tokenizer_config.json`, without which transformers does not open a `tokenizer.json`."""
CLASS = "UniversalActionProcessor"


def read(folder: Path | str) -> Fast:
    """The codec of a published folder, whose `auto_map` is not heeded: no code is run.

    Raises FileNotFoundError, or ConfigError naming the file and the field.
    """
    folder = Path(folder)
    path = folder / CONFIG
    config = read_object(path)
    scale, size, least = (_number(config, name, path) for name in ("scale", "vocab_size", "min_token"))
    file = folder / FILE
    if not file.is_file():
        raise FileNotFoundError(f"{folder}: expected {FILE}, found none")
    try:
        made = Fast(vocabulary=int(size), scale=float(scale))
        made.take(file.read_text(encoding="utf-8"), int(least))
    except ValueError as problem:
        raise ConfigError(f"{path}: {problem}" if "expected" in str(problem) else f"{file}: {problem}") from None
    return made


def write(fast: Fast, folder: Path | str, *, steps: int | None = None, width: int | None = None) -> None:
    """The codec as a published folder; steps, width: of the chunks, which a peer's `decode` then need not be told."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    scale = int(fast.scale) if float(fast.scale).is_integer() else fast.scale
    config = {
        "action_dim": width,
        "min_token": fast.least,
        "processor_class": CLASS,
        "scale": scale,
        "time_horizon": steps,
        "vocab_size": fast.vocabulary,
    }
    assert fast.backend
    write_text(folder / FILE, fast.text)
    write_json(folder / "tokenizer_config.json", PEER | {"processor_class": CLASS})
    write_json(folder / CONFIG, config)


def _number(config: dict[str, Any], name: str, path: Path) -> float:
    found = config.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ConfigError(f"{path}: {name}: expected a number, found {found!r}")
    if name != "scale" and found != int(found):
        raise ConfigError(f"{path}: {name}: expected a whole number, found {found!r}")
    return found
