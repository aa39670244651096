"""A recipe with another generative rule around its network, another network inside its rule, or other fields.

`--decoder` and `--trunk` of `train` are these, and `SYSTEM+DECODER` and `SYSTEM,FIELD=VALUE` of `compare`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from nextmove.config import ConfigError, decode, encode, nearest
from nextmove.decoders import Autoregressive
from nextmove.models.policy.suited import suited
from nextmove.parts import DECODERS, PARTS, TRUNKS

Recipe = TypeVar("Recipe")


def wraps(recipe: Any) -> bool:
    """Whether the recipe is one rule around one network."""
    return hasattr(getattr(recipe, "decoder", None), "trunk")


def heads(recipe: Any) -> dict[str, Any]:
    """What stands around the recipe's network by its name: rules as they are, and those that it has itself."""
    trunk = recipe.decoder.trunk
    return {name: kind(trunk=trunk) for name, kind in DECODERS.items()} | getattr(recipe, "heads", {})


def exchange(recipe: Any, decoder: str | None, trunk: str | None, flag: str = "--decoder") -> Any:
    """The recipe with another generative rule around the same network, or another network inside the same rule.

    Another rule brings with it the action space it needs.

    Args:
        recipe: Of any system.
        decoder: One of `heads`; None leaves it.
        trunk: One of `TRUNKS`; None leaves it.
        flag: What an error about the rule names.

    Raises:
        ConfigError: for a name that there is not, with those there are, and for a rule and a network that do not fit.
    """
    name = type(recipe).__name__
    for asked, chosen in ((flag, decoder), ("--trunk", trunk)):
        if chosen is not None and not wraps(recipe):
            raise ConfigError(f"{asked}: {name} wraps its network in more than one rule")
    # What a text or the codes of an image are, actions need not be.
    written = isinstance(getattr(recipe, "decoder", None), Autoregressive) and not hasattr(recipe, "actions")
    if decoder is not None:
        recipe = replace(recipe, decoder=_choose(heads(recipe), decoder, flag))
    if trunk is not None:
        recipe = replace(recipe, decoder=replace(recipe.decoder, trunk=_choose(TRUNKS, trunk, "--trunk")()))
    elif decoder is not None and (written or not hasattr(recipe.decoder.trunk, "build")):
        own = type(recipe.decoder.trunk).__name__
        raise ConfigError(f"{flag}: {own} of {name} is a network of ids; add --trunk, such as mlp")
    if trunk is not None and isinstance(recipe.decoder, Autoregressive):
        raise ConfigError(f"--trunk: {name} generates ids, {trunk} numbers; add --decoder, such as flow")
    return recipe if decoder is None else suited(recipe)


def _choose(options: dict[str, Any], name: str, flag: str) -> Any:
    if name not in options:
        raise ConfigError(f"{flag}: expected one of {', '.join(options)}; found {name!r}{nearest(name, options)}")
    return options[name]


def with_fields(recipe: Recipe, fields: Sequence[str], flag: str) -> Recipe:
    """The recipe with other values in some of its fields.

    Args:
        recipe: Of any system.
        fields: FIELD=VALUE each, a name or several with dots between, as after `--recipe.` of `train`, and a number, a
            word, or JSON.
        flag: What an error names.

    Raises:
        ConfigError: for a field that there is not, with the nearest that there is, one named twice, and a value that it
            does not take.
    """
    plain, where = encode(recipe), f"{flag}: {type(recipe).__name__}"
    done: set[str] = set()
    for text in fields:
        name, _, value = text.partition("=")
        path = name.replace("-", "_")
        if path in done:
            raise ConfigError(f"{where}.{name}: expected once, found twice")
        done.add(path)
        _put(plain, path.split("."), _read(value), where)
    try:
        return decode(type(recipe), plain, parts=PARTS, where=where)
    except ConfigError:
        raise
    except ValueError as problem:
        raise ConfigError(f"{flag}: {', '.join(fields)}: {problem}") from problem


def _put(plain: Any, path: Sequence[str], value: Any, where: str) -> None:
    first, *rest = path
    known = [str(i) for i in range(len(plain))] if isinstance(plain, list) else list(plain)
    if first not in known:
        fields = ", ".join(name for name in known if name != "kind")
        raise ConfigError(f"{where}: expected one of {fields}; found {first!r}{nearest(first, known)}")
    key = int(first) if isinstance(plain, list) else first
    if rest and not isinstance(plain[key], dict | list):
        raise ConfigError(f"{where}.{first}: {plain[key]!r} has no field {rest[0]!r}")
    if rest:
        _put(plain[key], rest, value, f"{where}.{first}")
    else:
        plain[key] = value


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
