"""One line of a comparison: a trained system and how it is sampled, and how it was judged."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nextmove import evaluation, sim
from nextmove.config import ConfigError
from nextmove.contracts import Feature
from nextmove.host.files import read_json, write_json
from nextmove.jobs.tasks.exchanged import exchange, with_fields
from nextmove.jobs.tasks.looking import recipe_for
from nextmove.systems import find

ONLY = "pusht"
"""The task of episodes in files of older versions, which name none: there was no other."""
FORM = "SYSTEM, SYSTEM+DECODER, SYSTEM,FIELD=VALUE, SYSTEM@STEPS or SYSTEM@SAMPLER:STEPS"
APART = re.compile(r",(?=[A-Za-z_][\w.-]*=)")
"""Between fields; the commas of a list are no such."""
FIELD = re.compile(r"[A-Za-z_][\w.-]*=[^\s/\\#?%<>|*]+")
"""A part of the names of files, to which pages link."""
LONGEST = 200
"""Bytes of a line's name: file systems take 255, and films and temporary files have longer names than it."""
MADE = ("simulator", "compare", "date", "machine", "judged_on")


@dataclass(frozen=True)
class ComparedRun:
    """One line of a comparison: a trained system and how it is sampled.

    decoder: the generative rule around the system's network, where it is not the system's own.
    fields: of the recipe, FIELD=VALUE each, where they are not the system's own.
    """

    system: str
    sampler: str | None
    steps: int
    episodes: int
    seed: int
    decoder: str | None = None
    fields: tuple[str, ...] = ()

    @property
    def trained(self) -> str:
        """SYSTEM or SYSTEM+DECODER, and each FIELD=VALUE."""
        network = f"{self.system}+{self.decoder}" if self.decoder else self.system
        return ",".join((network, *self.fields))

    @property
    def run(self) -> str:
        """Name of the training; lines that differ only in sampling share it."""
        return f"{self.trained}-n{self.episodes}-s{self.seed}"

    @property
    def name(self) -> str:
        """Name of the line."""
        return f"{self.run}-{self.sampler or 'steps'}{self.steps}" if self.steps else self.run

    @property
    def entry(self) -> str:
        """What it is apart from its training data and seed."""
        return f"{self.trained}@{self.sampling}" if self.sampling else self.trained

    @property
    def sampling(self) -> str:
        """SAMPLER:STEPS, STEPS, or nothing."""
        return ":".join(str(part) for part in (self.sampler, self.steps or None) if part)

    def recipe(self, inputs: Mapping[str, Feature]) -> Any:
        """What is trained for a robot that shows `inputs`; None for the system as it is."""
        if self.decoder is None and not self.fields:
            return None
        return _changed(recipe_for(self.system, inputs), self.decoder, self.fields)

    @classmethod
    def parse(cls, text: str, episodes: int, seed: int) -> ComparedRun:
        """From SYSTEM[+DECODER][,FIELD=VALUE ...][@STEPS or @SAMPLER:STEPS].

        Raises ConfigError for another form, a system, a decoder or a field that there is not, a value that a field does
        not take, what cannot be sampled so, and a name too long for files.
        """
        trained, at, sampling = text.partition("@")
        network, *fields = APART.split(trained)
        system, plus, decoder = network.partition("+")
        sampler, _, steps = sampling.rpartition(":")
        wrong = (at and not (steps.isdigit() and int(steps))) or (plus and not decoder)
        if wrong or "," in network or not all(map(FIELD.fullmatch, fields)):
            raise ConfigError(
                f"entries: expected {FORM}, such as flow-policy+diffusion@ddim:10 or act,optim.lr=1e-4, "
                f"and in a value no space and none of / \\ # ? % < > | *; found {text!r}"
            )
        known = find(system)
        if not known.acts:
            raise ConfigError(f"entries: expected policies, found {system!r}, a system of {known.family}")
        recipe = _changed(known.load()(), decoder or None, fields)
        recipe.decoder.with_sampling(sampler or None, int(steps or 0))
        line = cls(system, sampler or None, int(steps or 0), episodes, seed, decoder or None, tuple(fields))
        if (length := len(line.name.encode())) > LONGEST:
            raise ConfigError(
                f"entries: expected a name for files of at most {LONGEST} bytes, found {length}: {text!r}"
            )
        return line


def _changed(recipe: Any, decoder: str | None, fields: Sequence[str]) -> Any:
    return with_fields(exchange(recipe, decoder, None, "entries"), fields, "entries")


@dataclass(frozen=True)
class ComparedResult:
    """A line with its episodes, and what its file says of how it was judged.

    made: simulator, `compare` (the command line), date, machine and `judged_on` (offline: a hash of the episodes, and
    the number of windows), as far as the file has them.
    """

    line: ComparedRun
    entry: evaluation.Entry
    made: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> ComparedResult:
        """From a file of `write`; raises ValueError that names the file."""
        entry, record = evaluation.read_entry(path, ONLY), read_json(path)
        if "line" not in record:
            raise ValueError(f"{path}: expected a key 'line', found {sorted(record)}")
        line = {**record["line"], "fields": tuple(record["line"].get("fields", ()))}
        return cls(ComparedRun(**line), entry, {name: record[name] for name in MADE if name in record})

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        content = evaluation.entry_json(self.entry) | {"line": asdict(self.line), **self.made}
        write_json(path, content, indent=None)

    def played(self, simulator: str, seeds: range) -> bool:
        """Whether it was judged on these episodes; a file that names no simulator is taken to be of this one."""
        own = sorted(result.key for result in self.entry.results)
        asked = sorted((task.name, seed) for task in sim.find(simulator) for seed in seeds)
        return self.made.get("simulator", simulator) == simulator and own == asked

    @property
    def episodes(self) -> str:
        """What it was judged on, as text."""
        seeds = {result.seed for result in self.entry.results}
        if not seeds:
            return "held-out demonstrations"
        return f"{len(seeds)} from seed {min(seeds)} on {self.made.get('simulator', 'a simulator')}"

    def reported(self) -> evaluation.Entry:
        """The entry, its facts with those of the line and of the measurement."""
        line = {"entry": self.line.entry, "demonstrations": self.line.episodes}
        when = {name: self.made[name] for name in ("date", "machine") if name in self.made}
        return replace(self.entry, facts={**self.entry.facts, **line, **when})
