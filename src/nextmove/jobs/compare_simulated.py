"""Many policies trained on the same demonstrations of a simulator's task, judged on the same held-out seeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nextmove import sim
from nextmove.config import ConfigError
from nextmove.evaluation.kept import keeping
from nextmove.evaluation.machine import machine
from nextmove.host.lock import hold
from nextmove.jobs.evaluate import load_policy
from nextmove.jobs.kept import Demonstrations
from nextmove.jobs.left_out import remaining
from nextmove.jobs.lines import ComparedResult, ComparedRun
from nextmove.jobs.provenance import seeds_caution
from nextmove.jobs.repeat import writable_dir
from nextmove.jobs.simulated import judge, played, report, several, solved, timed
from nextmove.jobs.simulators import loudly, simulators_caution
from nextmove.jobs.tasks.policy import spec_of
from nextmove.jobs.trainings import due, outdated, trainings

DEMONSTRATIONS = 100
"""Trained on where no number is given."""
OTHERWISE = "; --offline compares on held-out demonstrations of any robot"


def compare_simulated(
    data_dir: Path,
    out: Path,
    *,
    entries: Sequence[str],
    demonstrations: Sequence[int],
    train_seeds: Sequence[int],
    minutes: float,
    steps: int,
    task: str,
    seeds: range,
    workers: int,
    batched: bool,
    video: int,
    retime: bool,
    again: str,
    leave_out: Sequence[int] = (),
) -> dict[str, Any]:
    """Trains every entry on the same demonstrations and judges all on the same seeds; see `compare`."""
    several(task, batched)
    sizes = demonstrations or (DEMONSTRATIONS,)
    lines = [ComparedRun.parse(e, n, s) for n in sizes for s in train_seeds for e in entries]
    demos = _check(data_dir, max(sizes), task, leave_out)
    folder = writable_dir(out / "judged")
    with hold(out):
        _check_same_episodes(folder, lines, task, seeds)
        for line, run, path in trainings(
            data_dir, out, lines, demos, minutes=minutes, steps=steps, leave_out=tuple(leave_out)
        ):
            make = partial(load_policy, run, sampler=line.sampler, steps=line.steps)
            now = {"simulator": task, "date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": machine()}
            if due(path, line, demos, run):
                key = played(run, task, batched, (line.sampler, line.steps))
                with keeping(out / "rollouts" / line.name, key) as kept:
                    entry = judge(
                        make, name=line.name, simulator=task, seeds=seeds, workers=workers, batched=batched,
                        video=video, run=run, kept=kept,
                    )  # fmt: skip
                    ComparedResult(line, entry, now | {"compare": again}).write(path)
            elif retime:
                found = ComparedResult.read(path)
                entry = replace(found.entry, latency=timed(make(), task, seeds.start))
                ComparedResult(line, entry, {**found.made, **now}).write(path)
        return _report(out, [line.name for line in lines], task, seeds, again, demos)


def _judged(folder: Path) -> dict[str, ComparedResult]:
    """All lines of a comparison by name."""
    return {path.stem: ComparedResult.read(path) for path in sorted(folder.glob("*.json"))}


def _check_same_episodes(folder: Path, lines: list[ComparedRun], simulator: str, seeds: range) -> None:
    """Raises ConfigError for a line that was judged on other episodes."""
    found = _judged(folder)
    for name in (line.name for line in lines if line.name in found):
        if not found[name].played(simulator, seeds):
            raise ConfigError(
                f"{folder / name}.json: expected {len(seeds)} episodes from seed {seeds.start} on {simulator}, found "
                f"{found[name].episodes}; ask for these, or remove the file to judge the line anew"
            )


def _check(data_dir: Path, demonstrations: int, simulator: str, leave_out: Sequence[int]) -> Demonstrations:
    """Raises ConfigError for features that differ from the simulator's, or too few demonstrations."""
    found = Demonstrations(data_dir, leave_out)
    dataset = found.dataset
    most = len(remaining(dataset, leave_out, "training"))
    spec, there = spec_of(dataset), sim.find(simulator)[0].features
    widths = {name: feature.width for name, feature in spec.inputs.items() if feature.type == "state"}
    for name, width in {**widths, "action": spec.action}.items():
        if name not in there:
            raise ConfigError(
                f"{data_dir}: {name}: expected a feature of {simulator}, found none of this name there{OTHERWISE}"
            )
        if list(there[name]["shape"]) != [width]:
            shape = list(there[name]["shape"])
            raise ConfigError(f"{data_dir}: {name}: expected shape {shape}, found {[width]}{OTHERWISE}")
    if demonstrations > most:
        raise ConfigError(f"demonstrations: expected at most {most}, found {demonstrations}; --demonstrations {most}")
    return found


def _report(
    out: Path, asked: list[str], simulator: str, seeds: range, again: str, demos: Demonstrations
) -> dict[str, Any]:
    """Reports on all lines judged on these episodes, those asked for first, and says how they did, best first."""
    found = _judged(out / "judged")
    same = {name: found[name] for name in [*asked, *found] if found[name].played(simulator, seeds)}
    apart = {name: "judged on other episodes" for name in found if name not in same}
    for name, judged in list(same.items()):
        why = outdated(judged, judged.line, demos, out / "train" / judged.line.run)
        if why:
            apart[same.pop(name).line.name] = why
    entries = [line.reported() for line in same.values()]
    written = report(
        entries,
        out,
        simulator=simulator,
        title=f"{len(same)} {'policy' if len(same) == 1 else 'policies'} on {simulator}",
        commands=list(dict.fromkeys([*(line.made.get("compare", again) for line in same.values()), again])),
        notes="".join(
            f"Left out, {why}: {', '.join(name for name in apart if apart[name] == why)}. "
            for why in dict.fromkeys(apart.values())
        ).strip(),
    )
    width = max(map(len, same))
    for name in written["best_first"]:
        print(f"{name:{width}}  {solved(written['policies'][name])}")
    loudly(simulators_caution(entries, simulator))
    print(" ".join(part for part in (seeds_caution(entries), written["notes"], f"Open {out / 'report.html'}") if part))
    return written
