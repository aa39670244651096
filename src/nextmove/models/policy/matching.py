"""Which dimensions of a state an action's are relative to, by name where both have names."""

from __future__ import annotations

from collections.abc import Sequence

from nextmove.models.policy.names import numbered
from nextmove.models.policy.spec import PolicySpec


def kept(spec: PolicySpec, keep: Sequence[str]) -> tuple[int, ...]:
    """Dimensions of the action that stay absolute: parts of their names, whatever the case, or their numbers.

    Raises ValueError for a number that is none of them; a name that no dimension has is no error, for it is a default.
    """
    chosen = set()
    for word in keep:
        if word.isdigit():
            if int(word) >= spec.action:
                raise ValueError(f"actions.keep: expected dimensions 0 to {spec.action - 1}, found {word}")
            chosen.add(int(word))
        else:
            chosen |= {i for i, name in enumerate(spec.action_names) if word.lower() in name.lower()}
    return tuple(sorted(chosen))


def share_names(spec: PolicySpec, reference: str, keep: Sequence[str]) -> bool:
    """Whether the state holds every dimension of the action that is not kept, by names that say more than a number."""
    state = spec.inputs.get(reference)
    if state is None or state.type != "state" or numbered(spec.action_names) or numbered(state.names):
        return False
    rest = _rest(spec, keep)
    return bool(rest) and {*rest} <= {*state.names}


def columns(spec: PolicySpec, reference: str, keep: Sequence[str]) -> tuple[int, ...] | None:
    """For each dimension of the action the state's that it is relative to, -1 where it is kept; None: it has them not.

    By name where they share them, else in order where the state is as wide.
    """
    state, stay = spec.inputs.get(reference), kept(spec, keep)
    if state is None or state.type != "state":
        return None
    if share_names(spec, reference, keep) and len({*state.names}) == len(state.names):
        return tuple(-1 if i in stay else state.names.index(name) for i, name in enumerate(spec.action_names))
    if state.width != spec.action:
        return None
    return tuple(-1 if i in stay else i for i in range(spec.action))


def _rest(spec: PolicySpec, keep: Sequence[str]) -> list[str]:
    stay = kept(spec, keep)
    return [name for i, name in enumerate(spec.action_names) if i not in stay]
