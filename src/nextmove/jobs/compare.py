"""Many policies, the same demonstrations, the same seeds: one table, paired tests, one report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nextmove.config import ConfigError
from nextmove.data.record import recorded_with
from nextmove.jobs.compare_offline import compare_offline
from nextmove.jobs.compare_runs import named, runs_offline, runs_simulated
from nextmove.jobs.compare_simulated import compare_simulated
from nextmove.jobs.repeat import Call, at_least, repeatable, share
from nextmove.jobs.simulated import HELD_OUT
from nextmove.jobs.simulators import demonstrated_in, taught_in

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
    task: str | None = None,
    offline: bool = False,
    test: float = 0.2,
    windows: int = 2048,
    leave_out: tuple[int, ...] = (),
    allow_trained: bool = False,
    episodes: int = 100,
    seed: int = HELD_OUT,
    workers: int = 2,
    batched: bool = True,
    video: int = 2,
    retime: bool = False,
    unnorm_key: str | None = None,
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
        entries: SYSTEM, SYSTEM+DECODER (another action head around the same network, as `train --decoder`) or
            SYSTEM,FIELD=VALUE (as `train --recipe.FIELD VALUE`; several have commas between them), with @STEPS or
            @SAMPLER:STEPS behind it; those that differ only in sampling share one training.
        demonstrations: Numbers of demonstrations to train on; default 100, offline all that are not judged on.
        train_seeds: Seeds of training.
        minutes: Training budget of each, on all threads, in busy minutes (processor time): other programs on the
            machine make a comparison longer but do not shorten a training.
        steps: Budget in steps instead of minutes.
        task: Name of a simulator's task, or of a suite, all of whose tasks are judged; `--simulator` says the same. By
            default that of the demonstrations, where their recording says it, or else pusht.
        offline: Judge on held-out demonstrations instead of a simulator.
        test: Offline: share of the episodes to judge on, chosen by their content.
        windows: Offline: windows judged, evenly out of all frames; 0 for all.
        leave_out: Numbers of episodes of the demonstrations that are neither trained nor judged on, such as those whose
            images are missing.
        allow_trained: Finished runs: judge on seeds and episodes that some were trained on; the report says so.
        episodes: Held-out episodes of each on each task.
        seed: First held-out episode's seed.
        workers: Processes of the evaluation.
        batched: Step all episodes in one process with batched network calls (noise is still each episode's own).
        video: Videos of each on each task.
        retime: Measure latencies again, of finished lines too; run it alone on the machine.
        unnorm_key: Finished runs: the data set in whose units checkpoints of OpenVLA act, where they know several.

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
                named(runs), Path(data_dir), out, windows=windows, allow_trained=allow_trained, again=again,
                unnorm_key=unnorm_key, leave_out=leave_out,
            )  # fmt: skip
        call.leave_out("offline windows leave_out", "for demonstrations, found none; name their folder")
        return runs_simulated(
            named(runs), taught_in(*runs) if task is None else task, out, seeds=seeds, workers=workers,
            batched=batched, video=video, allow_trained=allow_trained, again=again, unnorm_key=unnorm_key,
        )  # fmt: skip
    if data_dir is None:
        raise ConfigError("data_dir: expected a folder of demonstrations, or --runs with finished runs, found neither")
    data_dir = Path(data_dir)
    call.leave_out("allow_trained unnorm_key", "for finished runs, which --runs names")
    if offline:
        call.leave_out("task episodes seed workers batched video retime", "for a simulator")
        return compare_offline(
            data_dir, out, entries=entries, demonstrations=demonstrations, train_seeds=train_seeds, minutes=minutes,
            steps=steps, test=test, windows=windows, leave_out=leave_out, again=again,
        )  # fmt: skip
    call.leave_out("test windows", "for --offline")
    task = demonstrated_in([recorded_with(data_dir)]) if task is None else task
    return compare_simulated(
        data_dir, out, entries=entries, demonstrations=demonstrations, train_seeds=train_seeds, minutes=minutes,
        steps=steps, task=task, seeds=seeds, workers=workers, batched=batched, video=video, retime=retime, again=again,
        leave_out=leave_out,
    )  # fmt: skip
