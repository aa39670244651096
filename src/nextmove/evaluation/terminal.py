"""Offline errors on a terminal: by step of the horizon beside the baselines', and a bar a joint."""

from __future__ import annotations

import math
from typing import Any

from nextmove.evaluation.beside import POLICY, Beside, labels, worst_dims

STEPS = (1, 2, 5, 10, 16, 25, 50, 100)
BAR, JOINTS = 32, 32
"""Characters of the longest bar, and the most joints shown."""


def show_beside(found: Beside | None, name: str, console: Any = None) -> None:
    """Prints the errors over the spread of a policy called `name`."""
    from rich.console import Console

    console = console or Console(highlight=False)
    if found is None or not found.baselines or not math.isfinite(found.mean()):
        return
    console.print(_steps(found, name))
    console.print(_joints(found, console.encoding.lower().startswith("utf")))


def _steps(found: Beside, name: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", title="error / spread", title_justify="left")
    shown = [step for step in STEPS if step <= found.count.shape[1]]
    for column in ("plans of", "mean", *(f"step {step}" for step in shown)):
        table.add_column(column, justify="left" if column == "plans of" else "right", no_wrap=True)
    for who in found.errors:
        by_step = found.step_errors(who)
        cells = [f"{found.mean(who):.3f}", *(f"{by_step[step - 1]:.3f}" for step in shown)]
        table.add_row(name if who == POLICY else who, *cells, style="bold" if who == POLICY else "")
    return table


def _joints(found: Beside, blocks: bool) -> Any:
    """A bar for the policy and a mark for the best baseline, on one scale for all joints."""
    from rich.table import Table

    best = min(found.baselines, key=found.mean)
    mine, other = found.relative_dim_errors(), found.relative_dim_errors(best)
    dims, names = worst_dims(found, JOINTS), labels(found)
    largest = max((x for x in (*mine, *other) if math.isfinite(x)), default=1.0) or 1.0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, justify in (("joint", "left"), (f"error / spread, | {best}", "left"), ("", "right")):
        table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for i in dims:
        if math.isfinite(mine[i]):
            table.add_row(names[i], _bar(mine[i] / largest, other[i] / largest, blocks), f"{mine[i]:.3f}")
        else:
            table.add_row(names[i], "never moves", "")
    return table


def _bar(share: float, mark: float, blocks: bool) -> str:
    full = ["█" if blocks else "#"] * round(BAR * share)
    line = full + [" "] * (BAR + 1 - len(full))
    line[min(BAR, round(BAR * mark))] = "|"
    return "".join(line)
