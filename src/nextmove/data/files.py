"""Files that are on the disk when a function returns, and either whole or absent after a crash."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from nextmove.host.files import sync


def hidden(path: Path, root: Path) -> bool:
    """Whether a path below `root` is what systems and editors leave behind: `._a.png`, `.ipynb_checkpoints/a.png`."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(root).parts)


def sync_tree(folder: Path) -> None:
    """Wait until everything below a folder is on the disk."""
    for path in sorted(folder.rglob("*"), reverse=True):
        sync(path)
    sync(folder)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file under a temporary name, then give it its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(value, indent=4, ensure_ascii=False), encoding="utf-8")
    replace(new, path)


def replace(new: Path, path: Path) -> None:
    """Give the finished file or folder `new` the name `path`, for good."""
    sync(new)
    os.replace(new, path)
    sync(path.parent)
