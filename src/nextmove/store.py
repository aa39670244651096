"""Saved models: a folder of config.json, model.safetensors and a model card; nothing in it is unpickled or run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nextmove import __version__
from nextmove.config import ConfigError, decode, encode
from nextmove.systems import find, recipes

FORMAT = 1


def create(system: str, spec: Any, recipe: Any = None) -> Any:
    """An untrained model of the named system for `spec`; `recipe` replaces the system's default sizes."""
    recipe = find(system).load()() if recipe is None else recipe
    model = recipe.build(spec)
    model.card = {"system": system, "recipe": recipe, "spec": spec}
    return model


def save(model: Any, folder: Path | str, *, facts: Mapping[str, Any] | None = None) -> Path:
    """Writes the model as a folder; a folder already there keeps its old files until the new ones are complete.

    facts: what the card says about data, training and results (plain values).
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    card = model.card
    config = {
        "format": FORMAT,
        "nextmove": __version__,
        "system": card["system"],
        "recipe": encode(card["recipe"]),
        "spec": encode(card["spec"]),
        "facts": dict(facts or {}),
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    part = folder / ".model.safetensors.part"
    save_file(tensors, part, metadata={"format": "pt"})
    _publish(part, folder / "model.safetensors")
    _write(folder / "config.json", json.dumps(config, indent=2) + "\n")
    _write(folder / "README.md", _card(config, sum(v.numel() for v in tensors.values())))
    return folder


def load(folder: Path | str) -> Any:
    """The model of a saved folder, in evaluation mode.

    Raises FileNotFoundError, or ConfigError for an unknown system or key and for weights that do not fit it.
    """
    from safetensors.torch import load_file

    from nextmove.parts import PARTS, SPECS

    folder = Path(folder)
    config = read_config(folder)
    recipe = decode(find(config["system"]).load(), config["recipe"], parts=PARTS, where="recipe")
    spec = decode(Any, config["spec"], parts=(*PARTS, *SPECS, *recipes()), where="spec")
    model = create(config["system"], spec, recipe)
    check_keys(model, load_file(folder / "model.safetensors"), folder / "model.safetensors")
    model.facts = config["facts"]
    return model.eval()


def read_config(folder: Path | str) -> dict[str, Any]:
    """config.json of a saved model; raises FileNotFoundError or ConfigError naming what is wrong."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: expected a saved model with config.json, found none")
    try:
        config = json.loads(path.read_text())
    except json.JSONDecodeError as problem:
        raise ConfigError(f"{path}: not valid JSON ({problem})") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else config
        raise ConfigError(f"{path}: format: expected {FORMAT}, found {found!r}")
    return config


def check_keys(model: Any, tensors: Mapping[str, Any], path: Path) -> None:
    """Loads `tensors` into the model; a missing or unused key or another shape is an error that names it."""
    own = model.state_dict()
    for name in own:
        if name not in tensors:
            raise ConfigError(f"{path}: missing tensor {name!r}")
        if own[name].shape != tensors[name].shape:
            expected, found = tuple(own[name].shape), tuple(tensors[name].shape)
            raise ConfigError(f"{path}: {name}: expected shape {expected}, found {found}")
    unused = [name for name in tensors if name not in own]
    if unused:
        raise ConfigError(f"{path}: tensor {unused[0]!r} belongs to no part of the model")
    model.load_state_dict(tensors)


def _card(config: Mapping[str, Any], parameters: int) -> str:
    system = find(config["system"])
    rows = [f"| {key} | {value} |" for key, value in config["facts"].items()]
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


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    _publish(part, path)


def _publish(part: Path, path: Path) -> None:
    """The finished file under its name: on disk before it is visible, so that a crash leaves the old one."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
