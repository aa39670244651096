"""A look at a folder of images with a captions file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from nextmove.data import DataError
from nextmove.data.image_fit import read_fitted
from nextmove.data.pair_rows import FILES, Row, read_captions
from nextmove.evaluation.priors import blind_share, priors, table
from nextmove.evaluation.progress import progress_bar

SHOWN = 8
"""Images that cannot be read which are named."""
SMALL = (8, 8)
"""Size to which images are decoded to see whether they can be."""


def is_pairs(folder: Path) -> bool:
    """Whether a folder has a captions file."""
    return any((folder / name).is_file() for name in FILES)


def describe(folder: Path, deep: bool) -> tuple[str, int]:
    """What the folder holds as text, and how many of its images are absent or, looked at `deep`, cannot be read.

    Raises DataError for a captions file that is wrong, naming the line.
    """
    captions = read_captions(folder)
    rows = captions.rows
    names = [*dict.fromkeys(name for row in rows for name in row.images)]
    lines = [f"{captions.path}: {len(rows)} rows about {len(names)} images"]
    for what, count in (("kind", Counter(r.kind for r in rows)), ("split", Counter(r.split or "none" for r in rows))):
        lines.append(f"  {what:6}" + ", ".join(f"{name} {n}" for name, n in sorted(count.items())))
    if captions.unread:
        lines.append(f"  columns not read: {', '.join(captions.unread)}")
    lines += _blind(rows)
    broken = _broken(folder, names, deep)
    lines += [f"  ! {why}" for why in broken[:SHOWN]]
    if len(broken) > SHOWN:
        lines.append(f"  ! and {len(broken) - SHOWN} more")
    if broken:
        bad = f"{len(broken)} of {len(names)} images are absent or cannot be read"
        lines.append(f"  {bad}; nextmove train leaves their rows out with --leave-out-broken")
    else:
        lines.append("  nothing wrong found" if deep else "  all images are there; --deep decodes them too")
    return "\n".join(lines), len(broken)


def _blind(rows: tuple[Row, ...]) -> list[str]:
    """What is answered without looking, where questions are held out."""
    found = priors(*([(r.kind, r.prompt, r.text) for r in rows if r.held == held] for held in (False, True)))
    if not found:
        return []
    figures = table(found)
    widths = [max(len(row[i]) for row in figures) for i in range(len(figures[0]))]
    lines = ["    " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in figures]
    blind = blind_share(found)
    if blind == blind:
        lines.append(f"  answered without looking: {100 * blind:.1f} % of the held-out questions")
    return lines


def _broken(folder: Path, names: list[str], deep: bool) -> list[str]:
    """Why images cannot be read."""
    found = []
    with progress_bar(deep, "images decoded", len(names)) as move:
        for name in names:
            if not (folder / name).is_file():
                found.append(f"{name}: absent")
            elif deep:
                try:
                    read_fitted(folder / name, SMALL)
                except DataError as problem:
                    found.append(str(problem))
            move(1, "images decoded")
    return found
