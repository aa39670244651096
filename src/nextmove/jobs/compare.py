"""Many policies, the same demonstrations, the same seeds: one table, paired tests, one report."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nextmove import evaluation, parts
from nextmove.config import ConfigError
from nextmove.jobs.evaluate import HELD_OUT, judge, load_policy, report, timed
from nextmove.jobs.fit import once
from nextmove.jobs.train import train
from nextmove.systems import find

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


@dataclass(frozen=True)
class Contestant:
    """One line of a comparison: a trained system and how it is sampled."""

    system: str
    sampler: str | None
    steps: int
    episodes: int
    seed: int

    @property
    def run(self) -> str:
        """Name of the training; contestants that only sample otherwise share it."""
        return f"{self.system}-n{self.episodes}-s{self.seed}"

    @property
    def name(self) -> str:
        """Name of the line."""
        return f"{self.run}-{self.sampler or 'steps'}{self.steps}" if self.steps else self.run

    @property
    def entry(self) -> str:
        """What it is apart from its training data and seed."""
        return f"{self.system}@{self.sampling}" if self.sampling else self.system

    @property
    def sampling(self) -> str:
        """SAMPLER:STEPS, STEPS, or nothing."""
        return ":".join(str(part) for part in (self.sampler, self.steps or None) if part)

    @classmethod
    def parse(cls, text: str, episodes: int, seed: int) -> Contestant:
        """From SYSTEM, SYSTEM@STEPS or SYSTEM@SAMPLER:STEPS; raises ConfigError, also where it cannot be sampled so."""
        system, at, sampling = text.partition("@")
        decoder = find(system).load()().decoder
        sampler, _, steps = sampling.rpartition(":")
        if at and not (steps.isdigit() and int(steps)):
            raise ConfigError(
                f"entries: expected SYSTEM, SYSTEM@STEPS or SYSTEM@SAMPLER:STEPS, such as flow-policy@euler:4; "
                f"found {text!r}"
            )
        chosen = parts.asked_sampler(decoder, sampler or None, int(steps or 0))
        if chosen is not None:
            chosen.plan(decoder.path, decoder.target)
        return cls(system, sampler or None, int(steps or 0), episodes, seed)


def compare(
    data_dir: Path,
    *,
    out: Path = Path("runs/compare"),
    entries: tuple[str, ...] = ENTRIES,
    demonstrations: tuple[int, ...] = (100,),
    train_seeds: tuple[int, ...] = (0,),
    minutes: float = 10.0,
    steps: int = 0,
    simulator: str = "pusht",
    episodes: int = 100,
    seed: int = HELD_OUT,
    workers: int = 2,
    batched: bool = True,
    video: int = 2,
    retime: bool = False,
) -> dict[str, Any]:
    """Trains every entry on the same demonstrations and judges all on the same held-out seeds.

    What is done already is kept: the same command goes on after an interruption, and adds entries, sizes and seeds to
    an earlier comparison. Writes OUT/report.html, OUT/report.json and one JSON file a line in OUT/judged.

    Args:
        data_dir: Folder of the demonstrations.
        out: Folder of the comparison.
        entries: SYSTEM, SYSTEM@STEPS or SYSTEM@SAMPLER:STEPS; those that differ only in sampling share one training.
        demonstrations: Numbers of demonstrations to train on.
        train_seeds: Seeds of training.
        minutes: Training budget of each, on all threads, in busy minutes (processor time): other programs on the
            machine make a comparison longer but take nothing from a contestant.
        steps: Budget in steps instead of minutes.
        simulator: Name of the simulator.
        episodes: Held-out episodes of each.
        seed: First held-out episode's seed.
        workers: Processes of the evaluation.
        batched: Step all episodes in one process with batched network calls (noise is still each episode's own).
        video: Episodes to film of each.
        retime: Measure the latency of what is judged already anew: run it with the machine to itself.
    """
    out = Path(out)
    lines = [Contestant.parse(e, n, s) for n in demonstrations for s in train_seeds for e in entries]
    judged = out / "judged"
    judged.mkdir(parents=True, exist_ok=True)
    for i, line in enumerate(lines, 1):
        print(f"[{i}/{len(lines)}] {line.name}", flush=True)
        run = out / "train" / line.run
        once(
            run,
            partial(
                train, line.system, data_dir, minutes=0 if steps else minutes, clock="busy", steps=steps,
                episodes=line.episodes, seed=line.seed,
            ),
        )  # fmt: skip
        make = partial(load_policy, run, sampler=line.sampler, steps=line.steps)
        if retime and (judged / f"{line.name}.json").is_file():
            entry = evaluation.read_entry(judged / f"{line.name}.json")
            _keep(replace(entry, latency=timed(make(), simulator, seed)), line, judged / f"{line.name}.json")
        elif not (judged / f"{line.name}.json").is_file():
            entry = judge(
                make, name=line.name, simulator=simulator, seeds=range(seed, seed + episodes), workers=workers,
                batched=batched, video=video, run=run,
            )  # fmt: skip
            _keep(entry, line, judged / f"{line.name}.json")
    found = [_found(line, judged / f"{line.name}.json") for line in lines]
    command = f"nextmove compare {data_dir} --out {out} --minutes {minutes:g} --episodes {episodes}"
    title = f"{len(found)} {'policy' if len(found) == 1 else 'policies'} on {simulator}"
    return report(found, out, simulator=simulator, title=title, commands=[command])


def _found(line: Contestant, path: Path) -> evaluation.Entry:
    entry = evaluation.read_entry(path)
    return replace(entry, facts={**entry.facts, "entry": line.entry, "demonstrations": line.episodes})


def _keep(entry: Any, line: Contestant, path: Path) -> None:
    content = evaluation.entry_json(entry) | {"line": asdict(line), "date": time.strftime("%Y-%m-%d", time.gmtime())}
    part = path.with_suffix(".part")
    with part.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
