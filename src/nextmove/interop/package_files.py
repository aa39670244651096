"""Files of installed packages, found without running any of their code."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def package_file(module: str, file: str) -> Path | None:
    """A file, or a folder, in the package that is imported as `module`; None where either is absent."""
    spec = importlib.util.find_spec(module)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / file).exists():
            return Path(place) / file
    return None
