"""The trainings of a comparison: one line after the other, each with its run and the file of its judgement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nextmove import store
from nextmove.config import ConfigError
from nextmove.jobs.fit import train_or_resume
from nextmove.jobs.kept import Demonstrations
from nextmove.jobs.lines import ComparedResult, ComparedRun
from nextmove.jobs.tasks.policy import spec_of
from nextmove.jobs.train import train


def trainings(
    data_dir: Path,
    out: Path,
    lines: Sequence[ComparedRun],
    demos: Demonstrations,
    *,
    minutes: float,
    steps: int,
    **options: Any,
) -> Iterator[tuple[ComparedRun, Path, Path]]:
    """Trains each line, or finishes its training, and yields it with its run and the file of its judgement.

    Args:
        data_dir: Folder of the demonstrations.
        out: Folder of the comparison.
        lines: What is compared.
        demos: The demonstrations, by which trainings on others are refused before the first begins.
        minutes: Budget of each, in busy minutes.
        steps: Budget in steps instead.
        **options: Of `train`, the same for all.
    """
    budget = f"{steps} steps" if steps else f"{minutes:g} minutes (busy)"
    for line in lines:
        demos.refuse(out / "train" / line.run, budget, line.episodes)
    recipes = {line.run: _recipe(line, demos) for line in lines}
    for i, line in enumerate(lines, 1):
        print(f"[{i}/{len(lines)}] {line.name}", flush=True)
        run = out / "train" / line.run
        train_or_resume(
            run,
            partial(
                train, line.system, data_dir, minutes=0 if steps else minutes, clock="busy", steps=steps,
                episodes=line.episodes, seed=line.seed, recipe=recipes[line.run], **options,
            ),
        )  # fmt: skip
        yield line, run, out / "judged" / f"{line.name}.json"


def _recipe(line: ComparedRun, demos: Demonstrations) -> Any:
    """What is trained where the line names a decoder or fields, else None; ConfigError for what cannot be built."""
    if line.decoder is None and not line.fields:
        return None
    spec = spec_of(demos.dataset)
    recipe = line.recipe(spec.inputs)
    try:
        with torch.device("meta"):
            store.create(line.system, spec, recipe)
    except ValueError as problem:
        raise ConfigError(f"entries: {line.trained}: {problem}") from problem
    return recipe


def due(path: Path, line: ComparedRun, demos: Demonstrations, run: Path, key: str | None = None) -> bool:
    """Whether a line is to be judged: it never was, or, as is said then, what it was judged with has changed."""
    if not path.is_file():
        return True
    why = outdated(ComparedResult.read(path), line, demos, run, key)
    if why:
        print(f"{line.name}: {why} since it was judged; it is judged anew", flush=True)
    return bool(why)


def outdated(
    judged: ComparedResult, line: ComparedRun, demos: Demonstrations, run: Path, key: str | None = None
) -> str:
    """Why a judgement is not one of this run any more; nothing if it is.

    key: the episodes and windows judged on, where judgements name them as `judged_on`.
    """
    why = demos.outdated(judged.entry.facts, run, line.episodes)
    other = "the episodes or windows judged on were others" if key not in (None, judged.made.get("judged_on")) else ""
    return why or other
