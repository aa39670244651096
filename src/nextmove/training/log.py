"""The logs of a run: JSON lines, TensorBoard events, and a bar or lines on the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nextmove.host.files import Appended, write_text
from nextmove.training.events import Events, unavailable
from nextmove.training.progress import Watch


@dataclass
class Meter:
    """Means of named numbers over the steps since the last line; stored in checkpoints, so that lines do not change."""

    count: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        """Counts one step."""
        self.count += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        """The means so far."""
        return {name: value / self.count for name, value in self.sums.items()}

    def clear(self) -> None:
        """Starts anew."""
        self.count, self.sums = 0, {}


class Log:
    """Writes `train.jsonl` and `tensorboard/` in a folder and tells the watcher; does nothing unless `active`.

    Every line of train.jsonl is an object with `kind` (start, notice, step, validation, checkpoint, end) and `step`,
    the number of steps done. `keep` is the step of the checkpoint that is resumed: later lines of an interrupted
    sitting go.
    """

    def __init__(self, folder: Path, watch: Watch, *, active: bool, events: bool, keep: int | None) -> None:
        self.active, self.watch = active, watch
        self._folder, self._keep = folder, keep
        self._wanted = events and active
        self._events: Events | None = None
        if active:
            path = folder / "train.jsonl"
            _cut(path, keep)
            self._file = Appended(path)
        if self._wanted and (problem := unavailable()):
            self._wanted = False
            self.notice(keep or 0, problem)

    def write(self, kind: str, step: int, **values: Any) -> None:
        """One line; numbers that are not finite become null."""
        if self.active:
            self._file.write(json.dumps(_plain({"kind": kind, "step": step, **values})).encode() + b"\n")

    def notice(self, step: int, message: str) -> None:
        """A notice to the user, written and shown."""
        self.write("notice", step, message=message)
        if self.active:
            self.watch.say(message)

    def step(self, step: int, means: Mapping[str, float], elapsed: float) -> None:
        """The means since the last line: loss, its terms, gradient norm, rate, seconds a step, share of waiting."""
        if not self.active:
            return
        terms = {name.removeprefix("term/"): v for name, v in means.items() if name.startswith("term/")}
        line: dict[str, float] = {
            "loss": means["loss"],
            "lr": means["lr"],
            "grad_norm": means["grad_norm"],
            "steps_per_second": 1 / max(means["seconds"], 1e-9),
            "data_wait": means["wait"] / max(means["seconds"], 1e-9),
            "elapsed": elapsed,
        }
        self.write("step", step, **line, terms=terms)
        scalars = {f"train/{name}": value for name, value in line.items() if name != "elapsed"}
        self._scalars(step, {**scalars, **{f"train/term/{name}": value for name, value in terms.items()}})

    def validation(self, step: int, loss: float, terms: Mapping[str, float], *, best: bool, elapsed: float) -> None:
        """The loss of the averaged weights on held-out batches."""
        if self.active:
            self.write("validation", step, loss=loss, terms=dict(terms), best=best, elapsed=elapsed)
            self._scalars(step, {"validation/loss": loss, **{f"validation/term/{n}": v for n, v in terms.items()}})
            self.watch.say(f"step {step}: validation loss {loss:.4g}{' (best)' if best else ''}")

    def close(self) -> None:
        """Ends files and display."""
        self.watch.close()
        if self.active:
            self._file.close()
        if self._events is not None:
            self._events.close()

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        if not self._wanted:
            return
        if self._events is None:
            self._events = Events(self._folder / "tensorboard", self._keep)
        self._events.scalars(step, values)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(v) for name, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cut(path: Path, keep: int | None) -> None:
    """Leaves the lines up to step `keep`; none if it is None."""
    kept: list[str] = []
    if keep is not None and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # the line that a killed process was writing
                break
            if entry["step"] <= keep and entry["kind"] != "end":
                kept.append(line + "\n")
    write_text(path, "".join(kept))
