"""Progress of a run: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import time
from typing import Any, Literal

BAR_SECONDS, LINE_SECONDS = 0.2, 15.0


class Watch:
    """Shows share of the budget, time left, loss, steps per second and share of time spent waiting for data."""

    def __init__(self, mode: Literal["auto", "bar", "lines", "off"]) -> None:
        self._bar: Any = None
        self._due = 0.0
        self._console: Any = None
        if mode == "off":
            return
        from rich.console import Console

        self._console = Console(highlight=False)
        self._bars = mode == "bar" or (mode == "auto" and self._console.is_terminal)

    def due(self) -> bool:
        """Whether it is time to show something; cheap, to be asked every step."""
        return self._console is not None and time.monotonic() >= self._due

    def show(self, step: int, progress: float, left: float, means: dict[str, float]) -> None:
        """Shows `progress` in [0, 1] of the budget, `left` seconds and the means of the last steps."""
        if self._console is None:
            return
        text = f"step {step}"
        if means:
            seconds = max(means["seconds"], 1e-9)
            text += f"  loss {means['loss']:.4g}  {1 / seconds:.3g} steps/s  data {means['wait'] / seconds:.0%}"
        text += f"  ETA {_time(left)}"
        self._due = time.monotonic() + (BAR_SECONDS if self._bars else LINE_SECONDS)
        if not self._bars:
            self._console.print(f"{progress:4.0%}  {text}", soft_wrap=True)
            return
        if self._bar is None:
            self._bar = self._start()
        self._bar.update(self._task, completed=progress, text=text)
        self._bar.refresh()

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._console is not None:
            (self._console if self._bar is None else self._bar.console).print(text, soft_wrap=True)

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _start(self) -> Any:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (BarColumn(bar_width=24), TaskProgressColumn(), TextColumn("{task.fields[text]}"))
        # Refreshed by `show`: a thread of its own would take time from the steps.
        bar = Progress(*columns, console=self._console, auto_refresh=False)
        self._task = bar.add_task("", total=1.0, text="")
        bar.start()
        return bar


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
