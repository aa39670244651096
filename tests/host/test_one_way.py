"""Files are written in one place and processes started in one: a scan of the source finds a second way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import nextmove

SOURCE = Path(nextmove.__file__).parent
STARTS = {"multiprocessing", "subprocess", "ProcessPoolExecutor", "Popen", "os.fork", "DataLoader"}
"""Modules and names by which processes start."""
STARTERS = {
    "host/workers.py": "the one pool",
    "host/signals.py": "starts multiprocessing's resource tracker before signals are blocked",
    "data/loader.py": "torch's workers hand batches over in shared memory; a pipe would copy them",
}


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Every module by its path."""
    for path in sorted(SOURCE.rglob("*.py")):
        yield str(path.relative_to(SOURCE)), ast.parse(path.read_text(encoding="utf-8"))


def names(node: ast.AST) -> set[str]:
    """What a node imports or uses by name."""
    if isinstance(node, ast.Import):
        return {part for alias in node.names for part in alias.name.split(".")}
    if isinstance(node, ast.ImportFrom):
        return {*(node.module or "").split("."), *(alias.name for alias in node.names)}
    if isinstance(node, ast.Attribute):
        return {node.attr, ast.unparse(node)}
    return {node.id} if isinstance(node, ast.Name) else set()


def starting(module: ast.Module) -> set[str]:
    """The names by which a module starts processes."""
    return STARTS & {name for node in ast.walk(module) for name in names(node)}


def test_one_place_starts_processes() -> None:
    assert {path for path, module in sources() if starting(module)} == set(STARTERS)
    for text in (
        "from multiprocessing import Pool",
        "import subprocess",
        "futures.ProcessPoolExecutor(2)",
        "os.fork()",
    ):
        assert starting(ast.parse(text)), text
