"""Checks that a policy is shown the joints it was trained on, by name and in order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from nextmove.config import ConfigError
from nextmove.models.policy.spec import PolicySpec


def compare_names(spec: PolicySpec, found: Mapping[str, Sequence[str]], where: str) -> list[str]:
    """What cannot be compared, as text; raises ConfigError where names or their order differ.

    found: names of the dimensions of `action` and of observed features in `where` (a data set, a simulator, a robot);
    absent or empty where it has none. Numbered names (motor_0, motor_1, ...) say nothing beside other ones.
    """
    remarks = []
    for feature in (*(name for name, one in spec.inputs.items() if one.type == "state"), "action"):
        own, other = tuple(spec.names.get(feature, ())), tuple(found.get(feature, ()))
        if own == other and own:
            continue
        if sorted(own) == sorted(other) and own:
            raise ConfigError(
                f"{where}: {feature}: expected the order {_shown(own)}, as the policy was trained, found "
                f"{_shown(other)}; bring its dimensions into the policy's order"
            )
        if numbered(own) or numbered(other):
            remarks.append(f"{feature} ({'the policy' if numbered(own) else where} has no names)")
        else:
            raise ConfigError(
                f"{where}: {feature}: expected {_shown(own)}, as the policy was trained, found {_shown(other)}; "
                "it is another robot, or its dimensions were renamed"
            )
    return remarks


def numbered(names: Sequence[str]) -> bool:
    """Whether names tell no more than the place: none, or one stem with numbers that count up."""
    found = [re.fullmatch(r"(.*?)(\d+)", name) for name in names]
    if not all(found):
        return False
    stems, numbers = {m[1] for m in found if m}, [int(m[2]) for m in found if m]
    return len(stems) <= 1 and numbers == list(range(numbers[0] if numbers else 0, len(numbers) + (numbers or [0])[0]))


def _shown(names: Sequence[str]) -> str:
    return f"[{', '.join(names)}]"
