"""What docs/architecture.md counts, computed from the source."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from statistics import median
from typing import Any, get_type_hints

import pytest

import nextmove
from nextmove.contracts import ActionCodec, Decoder, Encoder
from nextmove.models.generator import Generator
from nextmove.models.policy import Policy

SOURCE = Path(nextmove.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
FILES = {path.relative_to(SOURCE): path.read_text(encoding="utf-8") for path in sorted(SOURCE.rglob("*.py"))}


def room(path: Path) -> str:
    """The folder of a file, or the file where it lies in none."""
    return path.parts[0].removesuffix(".py")


def imported(text: str) -> set[str]:
    """Rooms that a file imports, wherever it does."""
    nodes = list(ast.walk(ast.parse(text)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    rooms = {room(path) for path in FILES}
    return {name.split(".")[1] for name in names if name.startswith("nextmove.")} & rooms


ATTENTION = {"Attention", "MultiheadAttention"}
WHOLE = {"TransformerEncoderLayer", "TransformerDecoderLayer"}
"""torch's own blocks."""


def families() -> list[str]:
    """Classes that hold attention and a feed-forward part: transformer blocks."""
    found = []
    for path, text in FILES.items():
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef):
                held = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
                held |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
                if held & WHOLE or (held & ATTENTION and held & {"FeedForward", "feedforward"}):
                    found.append(f"{path}:{node.name}")
    return found


def untyped(kind: type) -> list[str]:
    """Parts and arguments of a class that are `Any`, options that are passed on left out."""
    found = [name for name, hint in get_type_hints(kind).items() if hint is Any]
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if name not in vars(kind) or (name.startswith("_") and not name.endswith("__")):
            continue
        passed_on = {p.name for p in inspect.signature(method).parameters.values() if p.kind is p.VAR_KEYWORD}
        hints = get_type_hints(method).items()
        found += [f"{name}.{part}" for part, hint in hints if hint is Any and part not in passed_on]
    return found


def two_way() -> list[tuple[str, str]]:
    """Rooms that import each other."""
    edges: dict[str, set[str]] = {}
    for path, text in FILES.items():
        edges.setdefault(room(path), set()).update(imported(text) - {room(path)})
    return [(a, b) for a in edges for b in edges[a] if a < b and a in edges.get(b, ())]


COUNTS = {
    "transformer blocks": lambda: len(families()),
    "files over 400 lines": lambda: sum(len(text.splitlines()) > 400 for text in FILES.values()),
    "parts that are `Any`": lambda: sum(len(untyped(k)) for k in (Policy, Generator, Encoder, Decoder, ActionCodec)),
    "rooms that import each other": lambda: len(two_way()),
}


def section(name: str) -> str:
    """The text of a section of the page."""
    return PAGE.read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("what", COUNTS)
def test_the_page_counts_what_there_is(what: str) -> None:
    rows = dict(re.findall(r"^\| ([^|]+) \| (\d+) \|", section("Counts"), re.M))
    assert COUNTS[what]() == int(rows[what])


def test_most_files_are_short() -> None:
    assert median(len(text.splitlines()) for text in FILES.values()) <= 120


def test_a_second_block_would_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "class Layer(nn.Module):\n    def __init__(self):\n        self.a, self.b = Attention(4, 1), config.feedforward"
    )
    monkeypatch.setitem(FILES, Path("nn/other.py"), text)
    assert "nn/other.py:Layer" in families()
    monkeypatch.setitem(FILES, Path("config.py"), "def f():\n    from nextmove import decoders")
    assert ("config", "decoders") in two_way()


def test_an_untyped_part_would_be_counted() -> None:
    class Loose:
        codec: Any

        def act(self, encoder: Any, **options: Any) -> None: ...

    assert untyped(Loose) == ["codec", "act.encoder"]


def test_the_stranger_opens_four_files() -> None:
    text = section("The stranger")
    files = set(re.findall(r"`((?:\w+/)+\w+\.py)", text))
    assert "models/policy/flow_policy.py" in files
    assert len(files) <= 4
    for part in ("loss", "noise", "scaling"):
        assert f"- {part}: " in text
