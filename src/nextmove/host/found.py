"""Messages on what a path holds where a folder was expected, and how to download it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

RECORDING = ".recording"
"""Behind the name of a data set: the folder where episodes wait until all are there."""
SHOWN = 4
"""Names of a folder's content that are listed."""


def found(place: Path | str, kind: Literal["dataset", "model"]) -> str:
    """The end of an error about a path that holds no data set, or no model: what it holds, or how to download it."""
    path = Path(place)
    if path.is_dir():
        return f"{path} is {_folder(path)}"
    if path.exists():
        return f"{path} is a file"
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", str(place)) and not path.parent.exists():
        repository = f"{place} --repo-type dataset" if kind == "dataset" else str(place)
        return (
            f"there is no folder {place}, and nothing is downloaded; if it is a name on the Hugging Face hub, run "
            f"`hf download {repository} --local-dir {path.name}` and give the folder {path.name}"
        )
    begun = path.with_name(path.name + RECORDING)
    if begun.is_dir():
        return (
            f"there is no folder {path}, but {begun}, a recording that has not ended; the command that began it goes on"
        )
    return f"there is no folder {path}"


def _folder(path: Path) -> str:
    names = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
    if not names:
        return "an empty folder"
    if (path / "meta" / "info.json").is_file():
        return "a data set"
    if (path / "config.json").is_file() or (path / "model" / "config.json").is_file():
        return "a model"
    if (path / "checkpoints").is_dir():
        return "a run whose training has not ended; the command that began it goes on with --resume"
    inner = next((name for name in names if (path / name / "meta" / "info.json").is_file()), None)
    if inner is not None:
        return f"a folder of data sets, such as {path / inner}"
    return f"a folder of {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"
