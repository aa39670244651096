"""Many policies, the same demonstrations, the same seeds: one table, paired tests, one report."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nextmove import sim
from nextmove.config import ConfigError
from nextmove.evaluation.kept import keeping
from nextmove.evaluation.machine import machine
from nextmove.host.lock import hold
from nextmove.jobs.compare_offline import compare_offline
from nextmove.jobs.compare_runs import named, runs_offline, runs_simulated
from nextmove.jobs.evaluate import load_policy
from nextmove.jobs.fit import train_or_resume
from nextmove.jobs.kept import Demonstrations
from nextmove.jobs.lines import ComparedResult, ComparedRun
from nextmove.jobs.provenance import seeds_caution
from nextmove.jobs.repeat import Call, at_least, repeatable, share, writable_dir
from nextmove.jobs.simulated import HELD_OUT, judge, played, report, several, solved, timed
from nextmove.jobs.simulators import loudly, simulators_caution
from nextmove.jobs.tasks.policy import spec_of
from nextmove.jobs.train import train

ENTRIES = (
    "bc",
    "lstm-gmm",
    "act",
    "diffusion-policy",
    "diffusion-policy@ddim:10",
    "diffusion-transformer",
    "diffusion-transformer@ddim:10",
    "flow-policy",
    "flow-policy@euler:4",
    "flow-policy@euler:1",
    "consistency-policy",
    "meanflow-policy",
    "action-tokens",
)
OTHERWISE = "; --offline compares on held-out demonstrations of any robot"


@repeatable
def compare(
    call: Call,
    data_dir: str | Path | None = None,
    *,
    runs: tuple[str | Path, ...] = (),
    out: str | Path = Path("runs/compare"),
    entries: tuple[str, ...] = ENTRIES,
    demonstrations: tuple[int, ...] = (),
    train_seeds: tuple[int, ...] = (0,),
    minutes: float = 10.0,
    steps: int = 0,
    task: str = "pusht",
    offline: bool = False,
    test: float = 0.2,
    windows: int = 2048,
    allow_trained: bool = False,
    episodes: int = 100,
    seed: int = HELD_OUT,
    workers: int = 2,
    batched: bool = True,
    video: int = 2,
    retime: bool = False,
) -> dict[str, Any]:
    """Trains every entry on the same demonstrations and judges all on the same held-out seeds or episodes.

    `compare FOLDER` judges on a simulator; `compare FOLDER --offline` judges on a part of the demonstrations that none
    is trained on, paired by episode, beside those who do nothing; `compare --runs A B` and `compare FOLDER --runs A B`
    do the same with finished runs, on seeds or episodes that none of them was trained on.

    Finished work is kept: the same command resumes after an interruption, and adds entries, sizes and seeds to an
    earlier comparison. Writes one JSON file a line in OUT/judged, and OUT/report.html and OUT/report.json of all
    lines there that were judged on the same episodes. Trainings and judgements are known by the content of data and
    weights: a training on what DATA_DIR held before is refused, a judgement of a training that is gone is made anew.

    Args:
        data_dir: Folder of the demonstrations; with `runs` of those to judge on, none for the simulator.
        runs: Finished runs, saved models or LeRobot checkpoints to compare instead of training.
        out: Folder of the comparison.
        entries: SYSTEM, SYSTEM@STEPS or SYSTEM@SAMPLER:STEPS; those that differ only in sampling share one training.
        demonstrations: Numbers of demonstrations to train on; default 100, offline all that are not judged on.
        train_seeds: Seeds of training.
        minutes: Training budget of each, on all threads, in busy minutes (processor time): other programs on the
            machine make a comparison longer but do not shorten a training.
        steps: Budget in steps instead of minutes.
        task: Name of a simulator's task, or of a suite, all of whose tasks are judged; `--simulator` says the same.
        offline: Judge on held-out demonstrations instead of a simulator.
        test: Offline: share of the episodes to judge on, chosen by their content.
        windows: Offline: windows judged, evenly out of all frames; 0 for all.
        allow_trained: Finished runs: judge on seeds and episodes that some were trained on; the report says so.
        episodes: Held-out episodes of each on each task.
        seed: First held-out episode's seed.
        workers: Processes of the evaluation.
        batched: Step all episodes in one process with batched network calls (noise is still each episode's own).
        video: Videos of each on each task.
        retime: Measure latencies again, of finished lines too; run it alone on the machine.

    Raises:
        ConfigError, DataError: for an entry, an option or demonstrations that do not fit, and for what OUT holds of
            other episodes, budgets or demonstrations, before any training.
        InUseError: where another run writes into OUT.

    Besides what `train` and `evaluate` raise.
    """
    out, again = Path(out), call.command()
    at_least(1, episodes=episodes, demonstrations=min(demonstrations, default=1))
    at_least(0, seed=seed, workers=workers, windows=windows, train_seeds=min(train_seeds))
    share(test=test)
    seeds = range(seed, seed + episodes)
    if runs:
        call.leave_out("entries demonstrations train_seeds minutes steps test retime", "for trainings")
        if data_dir is not None:
            call.leave_out("task episodes seed workers batched video", "for a simulator, found a folder")
            return runs_offline(
                named(runs), Path(data_dir), out, windows=windows, allow_trained=allow_trained, again=again
            )
        call.leave_out("offline windows", "for demonstrations, found none; name their folder")
        return runs_simulated(
            named(runs), task, out, seeds=seeds, workers=workers, batched=batched, video=video,
            allow_trained=allow_trained, again=again,
        )  # fmt: skip
    if data_dir is None:
        raise ConfigError("data_dir: expected a folder of demonstrations, or --runs with finished runs, found neither")
    data_dir = Path(data_dir)
    call.leave_out("allow_trained", "for finished runs, which --runs names")
    if offline:
        call.leave_out("task episodes seed workers batched video retime", "for a simulator")
        return compare_offline(
            data_dir, out, entries=entries, demonstrations=demonstrations, train_seeds=train_seeds, minutes=minutes,
            steps=steps, test=test, windows=windows, again=again,
        )  # fmt: skip
    call.leave_out("test windows", "for --offline")
    several(task, batched)
    demonstrations = demonstrations or (100,)
    lines = [ComparedRun.parse(e, n, s) for n in demonstrations for s in train_seeds for e in entries]
    demos = _check(data_dir, max(demonstrations), task)
    folder = writable_dir(out / "judged")
    with hold(out):
        _check_same_episodes(folder, lines, task, seeds)
        budget = f"{steps} steps" if steps else f"{minutes:g} minutes (busy)"
        for line in lines:
            demos.refuse(out / "train" / line.run, budget, line.episodes)
        for i, line in enumerate(lines, 1):
            print(f"[{i}/{len(lines)}] {line.name}", flush=True)
            run, path = out / "train" / line.run, folder / f"{line.name}.json"
            train_or_resume(
                run,
                partial(
                    train, line.system, data_dir, minutes=0 if steps else minutes, clock="busy", steps=steps,
                    episodes=line.episodes, seed=line.seed,
                ),
            )  # fmt: skip
            make = partial(load_policy, run, sampler=line.sampler, steps=line.steps)
            now = {"simulator": task, "date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": machine()}
            why = demos.outdated(ComparedResult.read(path).entry.facts, run, line.episodes) if path.is_file() else ""
            if why:
                print(f"{line.name}: {why} since it was judged; it is judged anew", flush=True)
            if why or not path.is_file():
                key = played(run, task, batched, (line.sampler, line.steps))
                with keeping(out / "rollouts" / line.name, key) as kept:
                    entry = judge(
                        make, name=line.name, simulator=task, seeds=seeds, workers=workers, batched=batched,
                        video=video, run=run, kept=kept,
                    )  # fmt: skip
                    ComparedResult(line, entry, now | {"compare": again}).write(path)
            elif retime:
                found = ComparedResult.read(path)
                entry = replace(found.entry, latency=timed(make(), task, seed))
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


def _check(data_dir: Path, demonstrations: int, simulator: str) -> Demonstrations:
    """Raises ConfigError for too few demonstrations, or features that differ from the simulator's."""
    found = Demonstrations(data_dir)
    dataset = found.dataset
    if demonstrations > dataset.num_episodes:
        raise ConfigError(f"demonstrations: expected at most {dataset.num_episodes}, found {demonstrations}")
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
    return found


def _report(
    out: Path, asked: list[str], simulator: str, seeds: range, again: str, demos: Demonstrations
) -> dict[str, Any]:
    """Reports on all lines judged on these episodes, those asked for first, and says how they did, best first."""
    found = _judged(out / "judged")
    same = {name: found[name] for name in [*asked, *found] if found[name].played(simulator, seeds)}
    apart = {name: "judged on other episodes" for name in found if name not in same}
    for name, judged in list(same.items()):
        why = demos.outdated(judged.entry.facts, out / "train" / judged.line.run, judged.line.episodes)
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
