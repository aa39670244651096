"""`nextmove systems` and `nextmove road`: every system, in two tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from nextmove.config import ConfigError
from nextmove.host.files import read_json
from nextmove.systems import SYSTEMS


def show(args: Sequence[str]) -> int:
    """Prints the table; `--json` prints the same as JSON lines."""
    if args and args[0] in ("-h", "--help"):
        print("usage: nextmove systems [--json]\n\nEvery system: family, what it is made of, built or planned.")
        return 0
    if list(args) == ["--json"]:
        for system in SYSTEMS:
            print(json.dumps({**asdict(system), "state": system.state}))
        return 0
    if args:
        raise ConfigError(f"expected no argument or --json, found {args[0]!r}")
    rows = [("system", "state", "family", "composed of")]
    table([*rows, *((s.name, s.state, s.family, s.sentence) for s in SYSTEMS)])
    count = sum(s.state == "built" for s in SYSTEMS)
    print(f"\n{count} of {len(SYSTEMS)} built. `nextmove train SYSTEM --help` explains one.")
    return 0


def road(args: Sequence[str]) -> int:
    """Prints what each system changed over its predecessor, its file, and its measured figure."""
    if args:
        print("usage: nextmove road\n\nEvery system: what it changed, its file, its figure (docs/results.md).")
        return 0 if args[0] in ("-h", "--help") else 2
    path = Path(__file__).parents[1] / "measured.json"
    measured = read_json(path) if path.is_file() else {}
    rows = [("system", "file", "measured", "what it changed")]
    for s in SYSTEMS:
        rows.append((s.name, s.file or "planned", measured.get(s.name, "not measured" if s.recipe else ""), s.since))
    table(rows)
    return 0


def table(rows: Sequence[tuple[str, ...]]) -> None:
    """Prints rows in columns, the last as long as it is."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]))
