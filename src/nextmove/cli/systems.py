"""`nextmove systems`: the road as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from nextmove.config import ConfigError
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
    rows += [(s.name, s.state, s.family, s.sentence) for s in SYSTEMS]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]))
    count = sum(s.state == "built" for s in SYSTEMS)
    print(f"\n{count} of {len(SYSTEMS)} built. `nextmove train SYSTEM --help` explains one.")
    return 0
