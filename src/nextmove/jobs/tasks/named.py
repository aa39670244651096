"""Options given by name to the dataclasses that have them: each option is written down once, in its dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from nextmove.config import ConfigError, nearest


def named(given: Mapping[str, Any], *kinds: type) -> list[dict[str, Any]]:
    """For each dataclass those of the options that are its fields; raises ConfigError for an option of none."""
    names = [{field.name for field in fields(kind)} for kind in kinds]
    for name in given:
        if not any(name in own for own in names):
            raise ConfigError(f"no option {name!r}{nearest(name, sorted(set().union(*names)))}")
    return [{name: value for name, value in given.items() if name in own} for own in names]
