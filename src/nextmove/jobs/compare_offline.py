"""Many policies on the user's own demonstrations: the same episodes to learn from, the same ones to be judged on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nextmove import data as sets
from nextmove import evaluation
from nextmove.config import ConfigError
from nextmove.data import identity
from nextmove.evaluation.keys import ranges
from nextmove.evaluation.machine import machine
from nextmove.host.lock import hold
from nextmove.jobs.evaluate import load_policy
from nextmove.jobs.kept import Demonstrations
from nextmove.jobs.left_out import remaining
from nextmove.jobs.lines import ComparedResult, ComparedRun
from nextmove.jobs.offline import offline
from nextmove.jobs.provenance import choose, training_record
from nextmove.jobs.repeat import writable_dir
from nextmove.jobs.tasks.policy import spec_of
from nextmove.jobs.trainings import due, outdated, trainings

UNIT = "action units"


def judged_episodes(dataset: sets.Dataset, share: float) -> tuple[np.ndarray, str, tuple[str, ...]]:
    """Numbers of the episodes to judge on, a hash of their content, and a caution about the choice.

    Chosen by content, so that an episode judged on is never trained on after others are added.
    """
    ids = identity.identify(
        dataset, [name for name, feature in spec_of(dataset).inputs.items() if feature.type == "state"]
    ).episodes
    held, notes = identity.held_out(ids, share, dataset.root, "episode")
    return dataset.episodes[held], f"{identity.hashed(np.sort(ids[held])):016x}", notes


def compare_offline(
    data_dir: Path,
    out: Path,
    *,
    entries: Sequence[str],
    demonstrations: Sequence[int],
    train_seeds: Sequence[int],
    minutes: float,
    steps: int,
    test: float,
    windows: int,
    leave_out: Sequence[int] = (),
    again: str,
) -> dict[str, Any]:
    """Trains every entry on the same episodes and judges all on the same others; see `compare`."""
    dataset = sets.open_dataset(data_dir)
    shown = dataset.select(remaining(dataset, leave_out))
    numbers, judged_on, notes = judged_episodes(shown, test)
    apart = tuple(sorted({*numbers.tolist(), *leave_out}))
    demos, key = Demonstrations(data_dir, leave_out=apart), f"{judged_on}:{windows}"
    sizes = demonstrations or (len(demos.rest),)
    if max(sizes) > len(demos.rest):
        raise ConfigError(
            f"demonstrations: expected at most {len(demos.rest)}, those of {data_dir} that are not judged on, found "
            f"{max(sizes)}"
        )
    for note in (f"judged on {len(numbers)} of {dataset.num_episodes} episodes: {_list(numbers)}", *notes):
        print(note)
    lines = [ComparedRun.parse(e, n, s) for n in sizes for s in train_seeds for e in entries]
    writable_dir(out / "judged")
    with hold(out):
        for line, run, path in trainings(data_dir, out, lines, demos, minutes=minutes, steps=steps, leave_out=apart):
            if due(path, line, demos, run, key):
                now = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": machine()}
                entry = _judge(line, run, data_dir, dataset.select(numbers), windows)
                ComparedResult(line, entry, {**now, "judged_on": key, "compare": again}).write(path)
        return _report(out, lines, demos, key, again, {"path": str(data_dir), "hash": judged_on, "numbers": numbers})


def _judge(line: ComparedRun, run: Path, data_dir: Path, judged: sets.Dataset, windows: int) -> evaluation.Entry:
    policy = load_policy(run, sampler=line.sampler, steps=line.steps)
    found, _, _ = offline(policy, data_dir, windows=windows, choice=choose(policy, judged))
    return evaluation.Entry(line.name, offline=found, **training_record(policy, run))


def _report(
    out: Path, asked: Sequence[ComparedRun], demos: Demonstrations, key: str, again: str, what: Mapping[str, Any]
) -> dict[str, Any]:
    """Reports on all lines judged on these episodes, those asked for first, and says how they did, best first."""
    names = [line.name for line in asked]
    shown: list[evaluation.Entry] = []
    left: list[str] = []
    for name in dict.fromkeys([*names, *(path.stem for path in sorted((out / "judged").glob("*.json")))]):
        judged = ComparedResult.read(out / "judged" / f"{name}.json")
        why = outdated(judged, judged.line, demos, out / "train" / judged.line.run, key)
        if why:
            left.append(f"Left out: {name} ({why}).")
        else:
            shown.append(judged.reported())
    return write(shown, out, what, caution="", again=again, notes=" ".join(left))


def write(
    entries: Sequence[evaluation.Entry],
    out: Path,
    what: Mapping[str, Any],
    *,
    caution: str,
    again: str,
    notes: str = "",
) -> dict[str, Any]:
    """The report of policies judged on the same demonstrations; prints their errors, best first, and the verdict."""
    count, numbers = len(entries), what["numbers"]
    some = "1 episode" if len(numbers) == 1 else f"the same {len(numbers)} episodes"
    written = evaluation.write_report(
        entries,
        out,
        title=f"{count} {'policy' if count == 1 else 'policies'} on {what['path']}",
        task=f"Plans beside what was demonstrated in {what['path']}: {some} for all of them ({_list(numbers)}).",
        unit=UNIT,
        commands=[again],
        caution=caution,
        notes=notes,
        data=what,
    )
    for line in table(written):
        print(line)
    print(" ".join(part for part in (written["verdict"], written["notes"], f"Open {out / 'report.html'}") if part))
    return written


def table(written: Mapping[str, Any]) -> list[str]:
    """Errors over the spread of the demonstrated actions, policies best first and then the baselines.

    Of several policies over the steps that all of them plan: far steps are harder.
    """
    paired, first = written["paired_errors"], written["best_first"][0]
    own = written["policies"][first]["offline"]["beside"]["errors"]
    rows = {name: paired["means"].get(name) for name in written["best_first"]} | paired["baselines"]
    steps = paired["steps"] or len(own["policy"]["by_step"])
    if not paired["means"]:
        rows = {first: own["policy"]["mean"]} | {name: found["mean"] for name, found in own.items() if name != "policy"}
    width = max(map(len, rows))
    what = f"error over the spread of the actions, mean over {'the next action' if steps == 1 else f'{steps} steps'}"
    return [what, *(f"{name:{width}}  {'n/a' if mean is None else f'{mean:.3f}'}" for name, mean in rows.items())]


def _list(numbers: Sequence[int] | np.ndarray) -> str:
    return ranges([int(number) for number in numbers])
