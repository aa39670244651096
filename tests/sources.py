"""The source of the package, parsed once for all tests that scan it."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import nextmove

SOURCE = Path(nextmove.__file__).parent


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Every module by its path below `SOURCE`, in order."""
    paths = sorted(SOURCE.rglob("*.py"))
    return {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}
