"""Cautions about simulators of other versions: the demonstrations', or those of results that are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nextmove import evaluation, sim
from nextmove.config import ConfigError
from nextmove.folders import open_folder
from nextmove.sim.tasks import suite_of
from nextmove.sim.versions import differences, installed

DEMONSTRATED, JUDGED = "demonstrated_with", "simulator"
"""Names of the facts of a model and of a result: the simulator that made its demonstrations, and its episodes."""


def demonstrations_caution(name: str, facts: Mapping[str, Any], simulator: Mapping[str, Any]) -> str:
    """A sentence if a policy's demonstrations were made by another simulator than this one; else nothing."""
    differing = differences(facts.get(DEMONSTRATED), simulator)
    if not differing:
        return ""
    return (
        f"The demonstrations of {name} were made by another simulator than it is judged on ({'; '.join(differing)}): "
        "the same actions can have other ends."
    )


def simulators_caution(entries: Sequence[evaluation.Entry], task: str) -> str:
    """Which results another simulator made than the one here, and which policies another taught; nothing if none."""
    found = [demonstrations_caution(e.name, e.facts, e.facts[JUDGED]) for e in entries if JUDGED in e.facts]
    for entry in entries:
        differing = differences(entry.facts.get(JUDGED), installed(sim.find(task), cameras=True))
        if differing:
            found.append(
                f"{entry.name} was judged by another simulator than the one installed ({'; '.join(differing)}); it is "
                "not comparable with what is judged here."
            )
    return " ".join(sentence for sentence in found if sentence)


def demonstrated_in(recorded: Iterable[Mapping[str, Any] | None]) -> str:
    """The task or suite whose episodes demonstrations were, which is printed; pusht where none of them says.

    recorded: as of `data.record.recorded_with`. Raises ConfigError for tasks that no suite has together.
    """
    names = sorted({name for known in recorded if known for name in known.get("tasks", ())})
    found = suite_of(names) if names else "pusht"
    if found is None:
        raise ConfigError(
            f"task: expected demonstrations of one task or suite, found {', '.join(names)}; --task names where to judge"
        )
    if found != "pusht":
        print(f"task: {found}, as of the demonstrations; --task judges on another")
    return found


def taught_in(*models: Path | str) -> str:
    """As of `demonstrated_in`, of what models were trained on; raises FileNotFoundError for a folder without one."""
    return demonstrated_in(open_folder(model).config.get("facts", {}).get(DEMONSTRATED) for model in models)


def loudly(caution: str) -> None:
    """Prints a caution so that it is seen; nothing for none."""
    if caution:
        print(f"CAUTION: {caution}")
