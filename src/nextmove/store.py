"""Saved models: a folder of config.json, model.safetensors and a model card; nothing in it is unpickled or run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from nextmove import __version__, formats
from nextmove.config import ConfigError, decode, encode
from nextmove.contracts import saved
from nextmove.folders import PLACES, open_folder
from nextmove.host.files import write_json, write_text
from nextmove.models.model import Card
from nextmove.systems import find, recipes

if TYPE_CHECKING:
    import torch

FORMAT, READABLE = 3, (1, 2, 3)
"""What is written and what can be read; `formats` and `nn.renamed` bring configs and names of tensors up to date."""
KEYS: dict[str, type] = {"system": str, "recipe": dict, "spec": dict, "facts": dict}
"""What a config must hold besides its format."""
OTHERS = ("format", "nextmove", "adapters", "sha256")
"""What it may hold besides those."""


def create(system: str, spec: Any, recipe: Any = None) -> Any:
    """An untrained model of the named system for `spec`; `recipe` replaces the system's default sizes."""
    recipe = find(system).load()() if recipe is None else recipe
    model = recipe.build(spec)
    model.card = Card(system, getattr(model, "recipe", None) or recipe, spec)
    return model


def save(model: Any, folder: Path | str, *, facts: Mapping[str, Any] | None = None) -> Path:
    """Writes the model as a folder; a folder already there keeps its old files until the new ones are complete.

    facts: what the card says about data, training and results (plain values).
    """
    from nextmove import weights

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    card = model.card
    if card is None:
        raise ValueError("model: expected one of `store.create` or `store.load`, found one without a card")
    config = {
        "format": FORMAT,
        "nextmove": __version__,
        "system": card.system,
        "recipe": encode(card.recipe),
        "spec": encode(card.spec),
        "facts": dict(facts or {}),
    }
    if model.adapters is not None:
        config["adapters"] = encode(model.adapters)
    tensors, file = model.state_dict(), folder / "model.safetensors"
    weights.write(file, tensors)
    config["sha256"] = weights.checksum(file)
    for name, text in saved.files(model).items():
        write_text(folder / name, text)
    write_json(folder / "config.json", config)
    write_text(folder / "README.md", _card(config, sum(v.numel() for v in tensors.values())))
    return folder


def load(folder: Path | str, *, dtype: torch.dtype | None = None, mapped: bool = False) -> Any:
    """The model of a saved folder, or of a run's, in evaluation mode; nothing is allocated or drawn but what it holds.

    Raises FileNotFoundError, or ConfigError naming the file for an unknown system, a wrong key or value, and weights
    that are damaged or do not fit.

    Args:
        folder: What `save` wrote.
        dtype: Of weights and statistics; None: as saved, whatever that is.
        mapped: Leave the weights in the file's pages (`weights.read`): for large models that several processes use.
            What is not read is not checked: a damaged weight is found by loading without.
    """
    from nextmove import weights
    from nextmove.decoders.reach import as_saved
    from nextmove.nn.lora import Lora, adapt
    from nextmove.nn.renamed import up_to_date
    from nextmove.parts import PARTS, SPECS

    config, folder = formats.up_to_date(read_config(folder)), open_folder(folder).folder
    file = folder / "model.safetensors"
    with _naming(folder / "config.json"):
        recipe = decode(find(config["system"]).load(), config["recipe"], parts=PARTS, where="recipe")
        kind = get_type_hints(recipe.build)["spec"]
        spec = decode(kind, config["spec"], parts=(*PARTS, *SPECS, *recipes(_kinds(config["spec"]))), where="spec")
        with as_saved(str(folder)), weights.without_storage():
            model = create(config["system"], spec, recipe)
            if "adapters" in config:
                model.adapters = decode(Lora, config["adapters"], where="adapters")
                adapt(model, model.adapters)
    tensors = weights.read(file, dtype=dtype, mapped=mapped)
    weights.assign(model, up_to_date(model, tensors, config["format"]), where=str(file))
    weights.check_filled(model, str(file))
    if not mapped:
        weights.check_whole(file, config.get("sha256"), "config.json")
    saved.read_files(model, folder)
    model.facts = config["facts"]
    return model.eval()


def read_config(folder: Path | str) -> dict[str, Any]:
    """config.json of a saved model; raises FileNotFoundError, or ConfigError naming file and key."""
    opened = open_folder(folder)
    path, config = opened.folder / "config.json", dict(opened.config)
    if opened.kind != "nextmove":
        raise ConfigError(f"{path}: expected a model of nextmove's, found one of {opened.whose}; {opened.used_by}")
    if config["format"] not in READABLE:
        raise ConfigError(f"{path}: format: expected 1, 2 or 3, found {config['format']!r}")
    for key, kind in KEYS.items():
        if key not in config:
            raise ConfigError(f"{path}: missing key {key!r}")
        if not isinstance(config[key], kind):
            raise ConfigError(f"{path}: {key}: expected {kind.__name__}, found {config[key]!r}")
    if unknown := sorted(config.keys() - {*KEYS, *OTHERS}):
        raise ConfigError(f"{path}: unknown key {unknown[0]!r}, expected {', '.join((*KEYS, *OTHERS))}")
    with _naming(path):
        find(config["system"])
    return config


def weights_hash(folder: Path | str) -> str | None:
    """A hash, hexadecimal, of the weights of a saved model or of a run's; None where there is no such file."""
    for path in (Path(folder) / place / "model.safetensors" for place in PLACES):
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
    return None


def _kinds(value: Any) -> set[str]:
    """Names of the classes that a part of a config is made of."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = {value["kind"]} if isinstance(value, dict) and isinstance(value.get("kind"), str) else set()
    return own.union(*map(_kinds, inner))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What is wrong with a file's content is said with its name."""
    try:
        yield
    except ValueError as problem:
        raise ConfigError(f"{path}: {problem}") from None


def _card(config: Mapping[str, Any], parameters: int) -> str:
    system = find(config["system"])
    # Hashes of every episode are for programs.
    rows = [f"| {key} | {value} |" for key, value in config["facts"].items() if key != "content"]
    return "\n".join(
        [
            f"# {system.title}",
            "",
            f"{system.sentence}: {system.since}. {parameters / 1e6:.2f} M values, nextmove {config['nextmove']}.",
            "",
            "| | |",
            "| --- | --- |",
            *rows,
            "",
            "```python",
            "from nextmove import store",
            "",
            'model = store.load("this/folder")',
            "```",
            "",
        ]
    )
