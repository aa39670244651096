"""Many policies, the same demonstrations, the same seeds: one table, paired tests, one report."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nextmove import evaluation, parts, sim
from nextmove.config import ConfigError
from nextmove.evaluation.kept import keeping
from nextmove.evaluation.machine import machine
from nextmove.host.files import write_text
from nextmove.host.lock import hold
from nextmove.jobs.evaluate import HELD_OUT, judge, load_policy, played, solved, timed
from nextmove.jobs.fit import once
from nextmove.jobs.kept import Demonstrations
from nextmove.jobs.provenance import seeds_caution
from nextmove.jobs.repeat import at_least, command, place
from nextmove.jobs.train import spec_of, train
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
MADE = ("simulator", "compare", "date", "machine")


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
        known = find(system)
        if known.family != "policy":
            raise ConfigError(f"entries: expected policies, found {system!r}, a system of {known.family}")
        decoder = known.load()().decoder
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


@dataclass(frozen=True)
class Judged:
    """A line with its episodes, and what its file says of how it was judged.

    made: simulator, `compare` (the command line), date and machine, as far as the file has them.
    """

    line: Contestant
    entry: evaluation.Entry
    made: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Judged:
        """From a file of `write`; raises ValueError that names the file."""
        entry, record = evaluation.read_entry(path), json.loads(path.read_text())
        if "line" not in record:
            raise ValueError(f"{path}: expected a key 'line', found {sorted(record)}")
        return cls(Contestant(**record["line"]), entry, {name: record[name] for name in MADE if name in record})

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        content = evaluation.entry_json(self.entry) | {"line": asdict(self.line), **self.made}
        write_text(path, json.dumps(content))

    def played(self, simulator: str, seeds: range) -> bool:
        """Whether it was judged on these episodes; a file that names no simulator is taken to be of this one."""
        own = sorted(result.seed for result in self.entry.results)
        return self.made.get("simulator", simulator) == simulator and own == list(seeds)

    @property
    def episodes(self) -> str:
        """What it was judged on, in words."""
        seeds = [result.seed for result in self.entry.results]
        return f"{len(seeds)} from seed {min(seeds)} on {self.made.get('simulator', 'a simulator')}"

    def reported(self) -> evaluation.Entry:
        """The entry, its facts with those of the line and of the measurement."""
        line = {"entry": self.line.entry, "demonstrations": self.line.episodes}
        when = {name: self.made[name] for name in ("date", "machine") if name in self.made}
        return replace(self.entry, facts={**self.entry.facts, **line, **when})


def compare(
    data_dir: str | Path,
    *,
    out: str | Path = Path("runs/compare"),
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
    an earlier comparison. Writes one JSON file a line in OUT/judged, and OUT/report.html and OUT/report.json of all
    lines there that were judged on the same episodes. Trainings and judgements are known by the content of data and
    weights: a training on what DATA_DIR held before is refused, a judgement of a training that is gone is made anew.

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

    Raises:
        ConfigError, DataError: for an entry, an option or demonstrations that do not fit, and for what OUT holds of
            other episodes, budgets or demonstrations, before any training.
        InUseError: where another run writes into OUT.

    Besides what `train` and `evaluate` raise.
    """
    data_dir, out = Path(data_dir), Path(out)
    again = command(compare, [data_dir], {name: value for name, value in locals().items() if name != "data_dir"})
    lines = [Contestant.parse(e, n, s) for n in demonstrations for s in train_seeds for e in entries]
    at_least(1, episodes=episodes, demonstrations=min(demonstrations))
    at_least(0, seed=seed, workers=workers, train_seeds=min(train_seeds))
    demos = _check(data_dir, max(demonstrations), simulator)
    seeds = range(seed, seed + episodes)
    folder = place(out / "judged")
    with hold(out):
        _refuse(folder, lines, simulator, seeds)
        budget = f"{steps} steps" if steps else f"{minutes:g} minutes (busy)"
        for line in lines:
            demos.refuse(out / "train" / line.run, budget, line.episodes)
        for i, line in enumerate(lines, 1):
            print(f"[{i}/{len(lines)}] {line.name}", flush=True)
            run, path = out / "train" / line.run, folder / f"{line.name}.json"
            once(
                run,
                partial(
                    train, line.system, data_dir, minutes=0 if steps else minutes, clock="busy", steps=steps,
                    episodes=line.episodes, seed=line.seed,
                ),
            )  # fmt: skip
            make = partial(load_policy, run, sampler=line.sampler, steps=line.steps)
            now = {"simulator": simulator, "date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": machine()}
            why = demos.outdated(Judged.read(path).entry.facts, run, line.episodes) if path.is_file() else ""
            if why:
                print(f"{line.name}: {why} since it was judged; it is judged anew", flush=True)
            if why or not path.is_file():
                key = played(run, simulator, batched, (line.sampler, line.steps))
                with keeping(out / "rollouts" / line.name, key) as kept:
                    entry = judge(
                        make, name=line.name, simulator=simulator, seeds=seeds, workers=workers, batched=batched,
                        video=video, run=run, kept=kept,
                    )  # fmt: skip
                    Judged(line, entry, now | {"compare": again}).write(path)
            elif retime:
                found = Judged.read(path)
                entry = replace(found.entry, latency=timed(make(), simulator, seed))
                Judged(line, entry, {**found.made, **now}).write(path)
        return _report(out, [line.name for line in lines], simulator, seeds, again, demos)


def _judged(folder: Path) -> dict[str, Judged]:
    """All lines of a comparison by name."""
    return {path.stem: Judged.read(path) for path in sorted(folder.glob("*.json"))}


def _refuse(folder: Path, lines: list[Contestant], simulator: str, seeds: range) -> None:
    """Raises ConfigError for a line that was judged on other episodes: it is neither what is asked for nor to do."""
    found = _judged(folder)
    for name in (line.name for line in lines if line.name in found):
        if not found[name].played(simulator, seeds):
            raise ConfigError(
                f"{folder / name}.json: expected {len(seeds)} episodes from seed {seeds.start} on {simulator}, found "
                f"{found[name].episodes}; ask for these, or remove the file to judge the line anew"
            )


def _check(data_dir: Path, demonstrations: int, simulator: str) -> Demonstrations:
    """Raises ConfigError for demonstrations that are too few or that show and do something else than the simulator."""
    found = Demonstrations(data_dir)
    dataset = found.dataset
    if demonstrations > dataset.num_episodes:
        raise ConfigError(f"demonstrations: expected at most {dataset.num_episodes}, found {demonstrations}")
    spec, there = spec_of(dataset), sim.features(simulator)
    for name, width in {**spec.features, "action": spec.action}.items():
        if name not in there:
            raise ConfigError(f"{data_dir}: {name}: expected a feature of {simulator}, found none of this name there")
        if list(there[name]["shape"]) != [width]:
            raise ConfigError(f"{data_dir}: {name}: expected shape {list(there[name]['shape'])}, found {[width]}")
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
    written = evaluation.write_report(
        entries,
        out,
        title=f"{len(same)} {'policy' if len(same) == 1 else 'policies'} on {simulator}",
        task=sim.task(simulator),
        unit="px",
        commands=list(dict.fromkeys([*(line.made.get("compare", again) for line in same.values()), again])),
        notes="".join(
            f"Left out, {why}: {', '.join(name for name in apart if apart[name] == why)}. "
            for why in dict.fromkeys(apart.values())
        ).strip(),
        caution=seeds_caution(entries),
    )
    width = max(map(len, same))
    for name in written["best_first"]:
        print(f"{name:{width}}  {solved(written['policies'][name])}")
    print(" ".join(part for part in (seeds_caution(entries), written["notes"], f"Open {out / 'report.html'}") if part))
    return written
