"""Finished runs against each other: on the same seeds of a simulator or the same episodes, none of them trained on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nextmove import data as sets
from nextmove import evaluation
from nextmove.config import ConfigError
from nextmove.data import identity
from nextmove.evaluation.kept import keeping
from nextmove.evaluation.keys import episodes, ranges
from nextmove.folders import open_folder
from nextmove.host.files import read_json, write_json
from nextmove.host.lock import hold
from nextmove.jobs.compare_offline import write
from nextmove.jobs.evaluate import load_policy
from nextmove.jobs.held import held_state
from nextmove.jobs.left_out import check_watched, remaining
from nextmove.jobs.lines import ONLY
from nextmove.jobs.offline import offline
from nextmove.jobs.provenance import SHOWN, Choice, choose, demonstrated, shown_seeds, training_record, written
from nextmove.jobs.repeat import writable_dir
from nextmove.jobs.robot import fits_data, fits_task, known_by, unsaid
from nextmove.jobs.simulated import judge, played, report, several, solved
from nextmove.models.policy import Policy

UNSEEN = ("kept", "new")
ALL_THE_SAME = "; --allow-trained judges on them all the same"


def named(runs: Sequence[str | Path]) -> dict[str, Path]:
    """Runs by a name of their own: that of the folder, with the folder above where two are named alike.

    Raises ConfigError for fewer than two, and for one folder given twice.
    """
    if len(runs) < 2:
        raise ConfigError(f"runs: expected at least two, found {len(runs)}")
    where = [run.parent if run.name == "model" else run for run in (Path(run).resolve() for run in runs)]
    for i, run in enumerate(runs):
        if where[i] in where[:i]:
            raise ConfigError(f"runs: expected each run once, found {run} again")
    for depth in range(1, max(len(folder.parts) for folder in where)):
        names = ["-".join(folder.parts[-depth:]) for folder in where]
        if len(set(names)) == len(names):
            return dict(zip(names, map(Path, runs), strict=True))
    raise AssertionError("folders that differ have names that differ")


def units_of(runs: Mapping[str, Path], unnorm_key: str | None) -> dict[str, dict[str, Any]]:
    """In whose units each run acts, of OpenVLA's folders; raises ConfigError where none of the runs is one."""
    several = [name for name, run in runs.items() if open_folder(run).kind == "openvla"]
    if unnorm_key is not None and not several:
        raise ConfigError("unnorm_key: for folders of OpenVLA, found none among the runs; leave out --unnorm-key")
    return {name: {"unnorm_key": unnorm_key} if unnorm_key and name in several else {} for name in runs}


def runs_offline(
    runs: Mapping[str, Path],
    data_dir: Path,
    out: Path,
    *,
    windows: int,
    allow_trained: bool,
    again: str,
    unnorm_key: str | None = None,
    leave_out: Sequence[int] = (),
) -> dict[str, Any]:
    """Judges runs on those episodes of a data set that none of them was trained on."""
    dataset = sets.open_dataset(data_dir)
    units = units_of(runs, unnorm_key)
    policies = {name: load_policy(run, **unsaid(dataset), **units[name]) for name, run in runs.items()}
    for policy in policies.values():
        fits_data(policy, dataset)
    shown = dataset.select(remaining(dataset, leave_out))
    choices = {name: choose(policy, shown) for name, policy in policies.items()}
    numbers = common(choices, shown, allow_trained)
    for policy in policies.values():
        check_watched(policy, dataset, numbers, leave_out)
    folder = writable_dir(out / "runs")
    entries, cautions = [], []
    with hold(out):
        for i, (name, policy) in enumerate(policies.items(), 1):
            print(f"[{i}/{len(runs)}] {name}", flush=True)
            choice = _all_of(choose(policy, dataset.select(numbers)), numbers)
            cautions += [f"{name}: {choice.caution}"] if choice.caution else []
            read = [*known_by(policy), *filter(None, [held_state(dataset)])]
            ids = identity.identify(dataset.select(numbers), list(dict.fromkeys(read))).episodes
            key = {**written(runs[name]), **units[name], "data": identity.to_hex(ids), "windows": windows}
            entries.append(
                _load_or_judge(
                    folder / f"{name}.json", key, partial(_beside, name, policy, runs, data_dir, choice, windows)
                )
            )
        what = {"path": str(data_dir), "hash": choices[next(iter(choices))].hash, "numbers": numbers}
        return write(entries, out, what, caution=" ".join(cautions), again=again)


def common(choices: Mapping[str, Choice], dataset: sets.Dataset, allow_trained: bool) -> np.ndarray:
    """Episodes that no run was trained on, as far as is known; raises ConfigError where none is left."""
    if allow_trained:
        return dataset.episodes
    left = dataset.episodes
    for choice in choices.values():
        fine = set(choice.judged) <= {*UNSEEN, "unknown"}
        left = np.intersect1d(left, choice.episodes if fine else [])
    if not len(left):
        seen = ", ".join(
            f"{name} {choice.counts['seen'] + choice.counts['alike']} of {dataset.num_episodes}"
            for name, choice in choices.items()
        )
        raise ConfigError(
            f"{dataset.root}: expected episodes that no run was trained on, found none (trained on or maybe: {seen})"
            f"{ALL_THE_SAME}"
        )
    return np.asarray(left, np.int64)


def _all_of(choice: Choice, numbers: np.ndarray) -> Choice:
    """A choice of all these episodes; its caution says how they relate to what this run was trained on."""
    relations = tuple(name for name, count in choice.counts.items() if count)
    return choice if len(choice.episodes) == len(numbers) else replace(choice, episodes=numbers, judged=relations)


def _beside(
    name: str, policy: Policy, runs: Mapping[str, Path], data_dir: Path, choice: Choice, windows: int
) -> evaluation.Entry:
    found, _, _ = offline(policy, data_dir, windows=windows, choice=choice)
    return evaluation.Entry(name, offline=found, **training_record(policy, runs[name]))


def runs_simulated(
    runs: Mapping[str, Path],
    simulator: str,
    out: Path,
    *,
    seeds: range,
    workers: int,
    batched: bool,
    video: int,
    allow_trained: bool,
    again: str,
    unnorm_key: str | None = None,
) -> dict[str, Any]:
    """Judges runs on the same seeds of a simulator's tasks, none of them demonstrated."""
    tasks = several(simulator, batched)
    units = units_of(runs, unnorm_key)
    makers = {name: partial(load_policy, run, **unsaid(tasks[0]), **units[name]) for name, run in runs.items()}
    for name, make in makers.items():
        policy = make()
        for task in tasks:
            fits_task(policy, task)
        if not allow_trained:
            _check_unseen(policy, name, simulator, seeds, len(tasks))
    folder, entries = writable_dir(out / "runs"), []
    with hold(out):
        for i, (name, make) in enumerate(makers.items(), 1):
            print(f"[{i}/{len(runs)}] {name}", flush=True)
            key = {
                **played(runs[name], simulator, batched),
                **units[name],
                "seeds": [seeds.start, seeds.stop],
                "video": video,
            }

            def play(
                name: str = name, make: Callable[[], Policy] = make, key: dict[str, Any] = key
            ) -> evaluation.Entry:
                with keeping(out / "rollouts" / name, key) as kept:
                    return judge(
                        make, name=name, simulator=simulator, seeds=seeds, workers=workers, batched=batched,
                        video=video, run=runs[name], kept=kept,
                    )  # fmt: skip

            entries.append(_load_or_judge(folder / f"{name}.json", key, play))
        title = f"{len(entries)} runs on {simulator}"
        written = report(entries, out, simulator=simulator, title=title, commands=[again])
    width = max(map(len, runs))
    for name in written["best_first"]:
        print(f"{name:{width}}  {solved(written['policies'][name])}")
    print(f"{written['verdict']} Open {out / 'report.html'}")
    return written


def _check_unseen(policy: Policy, name: str, simulator: str, seeds: range, tasks: int) -> None:
    """Raises ConfigError where the policy was shown some of these seeds."""
    shown = shown_seeds({SHOWN: demonstrated(policy, simulator, seeds)})
    if shown:
        these = episodes(shown) if tasks > 1 else ranges([seed for _, seed in shown])
        raise ConfigError(
            f"seed: expected seeds that no run was shown, found {len(shown)} of {tasks * len(seeds)} "
            f"demonstrated to {name} ({these}); choose others with --seed{ALL_THE_SAME}"
        )


def _load_or_judge(path: Path, key: Mapping[str, Any], judge: Callable[[], evaluation.Entry]) -> evaluation.Entry:
    """The entry in a file whose key (weights, episodes) is the same; else it is judged and written there."""
    known = json.loads(json.dumps(key))
    if path.is_file() and read_json(path).get("key") == known:
        print(f"{path.stem}: judged before, the same weights on the same episodes")
        return evaluation.read_entry(path, ONLY)
    entry = judge()
    write_json(path, evaluation.entry_json(entry) | {"key": known}, indent=None)
    return entry
