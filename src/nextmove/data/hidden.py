"""Files that systems and editors leave behind in folders of data."""

from __future__ import annotations

from pathlib import Path


def hidden(path: Path, root: Path) -> bool:
    """Whether a path below `root` is what systems and editors leave behind: `._a.png`, `.ipynb_checkpoints/a.png`."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(root).parts)
