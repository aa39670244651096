"""All jobs in one: records demonstrations, trains a policy, judges it and writes the report."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from nextmove.evaluation.kept import keeping
from nextmove.host.lock import hold
from nextmove.jobs.evaluate import load_policy
from nextmove.jobs.fit import train_or_resume
from nextmove.jobs.kept import Demonstrations
from nextmove.jobs.record import record
from nextmove.jobs.repeat import Call, repeatable, writable_dir
from nextmove.jobs.simulated import HELD_OUT, judge, played, report, solved
from nextmove.jobs.train import train
from nextmove.training import TrainConfig


@repeatable
def demo(
    call: Call,
    *,
    minutes: float = 6.0,
    out: str | Path = Path("runs/demo"),
    demonstrations: int = 999,
    episodes: int = 50,
    system: str = "flow-policy",
    workers: int = 2,
) -> dict[str, Any]:
    """Records demonstrations of PushT, trains a policy, judges it on held-out seeds and writes OUT/report.html.

    Finished work is kept: after an interruption the same command resumes.

    Args:
        minutes: Training budget. 6 solves the task; 2 gives a first impression.
        out: Folder of everything the demo makes.
        demonstrations: Episodes of the scripted expert to learn from.
        episodes: Held-out episodes to judge on.
        system: The policy.
        workers: Processes that record and evaluate.

    Raises:
        SimulatorError: where the simulator is not installed.
        ConfigError: for what OUT holds of another budget or other demonstrations.
        InUseError: where another run writes into OUT.

    Besides what `record`, `train` and `evaluate` raise.
    """
    out = Path(out)
    again = call.command(always="minutes demonstrations episodes")
    writable_dir(out)
    with hold(out):
        began = time.perf_counter()
        print(f"1/3 recording {demonstrations} demonstrations of PushT", flush=True)
        demos = record("pusht", out=out / "demos", episodes=demonstrations, workers=workers)
        print(f"2/3 training {system} for {minutes:g} minutes", flush=True)
        run = out / system
        Demonstrations(demos).refuse(run, TrainConfig(minutes=minutes).budget)
        train_or_resume(run, partial(train, system, demos, minutes=minutes))
        print(f"3/3 judging it on {episodes} held-out seeds", flush=True)
        seeds = range(HELD_OUT, HELD_OUT + episodes)
        with keeping(out / "rollouts", played(run, "pusht")) as kept:
            entry = judge(
                partial(load_policy, run), name=system, simulator="pusht", seeds=seeds, workers=workers, video=4,
                run=run, kept=kept,
            )  # fmt: skip
            written = report([entry], out, simulator="pusht", title="PushT in one command", commands=[again])
        print(
            f"{system}: {solved(written['policies'][system])} "
            f"after {(time.perf_counter() - began) / 60:.1f} minutes in all; open {out / 'report.html'}"
        )
        return written
