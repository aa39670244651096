"""A table with its head in docs/data, from where `scripts/results.py write` takes it to the pages."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nextmove import sim
from nextmove.evaluation.machine import machine, versions
from nextmove.host.files import write_json
from nextmove.sim.versions import installed

DATA = Path(__file__).parent.parent / "docs" / "data"


def keep(
    name: str,
    *,
    title: str,
    command: str,
    note: str,
    columns: list[str],
    rows: list[list[Any]],
    simulated: Sequence[str] = (),
) -> None:
    """Writes docs/data/NAME.json with today's date, this machine and the versions of what is installed.

    simulated: tasks and suites that were played, whose simulators' versions are kept too.
    """
    played = [task for suite in simulated for task in sim.find(suite)]
    content = {
        "title": title,
        "command": command,
        "note": note,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "versions": versions(),
        **({"simulator": installed(played, cameras=False)} if played else {}),
        "columns": columns,
        "rows": rows,
    }
    write_json(DATA / f"{name}.json", content, indent=1)


def rows(name: str) -> list[list[Any]]:
    """The rows that are kept; none where there is no such table."""
    path = DATA / f"{name}.json"
    return list(json.loads(path.read_text())["rows"]) if path.is_file() else []
