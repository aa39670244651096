"""What pages point to is there: files, headings, and the functions that formulas are computed in."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    absent = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            absent.append(link)
    assert not absent


def test_every_page_is_linked_from_another() -> None:
    linked = set()
    for page in PAGES:
        links = re.findall(r"\]\(([^)\s#]+)", page.read_text())
        linked |= {(page.parent / link).resolve() for link in links if "://" not in link} - {page}
    assert not [page.relative_to(ROOT) for page in PAGES[1:] if page not in linked]


def defined(path: Path) -> set[str]:
    """Classes, functions and methods that a file defines, methods as CLASS.METHOD."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_functions_that_pages_name_exist(page: Path) -> None:
    source = ROOT / "src" / "nextmove"
    named = re.findall(r"`([\w/]+\.py):([\w.]+)`", page.read_text())
    assert not [f"{file}:{name}" for file, name in named if name not in defined(source / file)]


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "systems").glob("*.md")), ids=lambda page: page.stem)
def test_a_system_says_where_its_formulas_are(page: Path) -> None:
    text = page.read_text()
    formulas = text[text.index("**Formulas**") : text.index("**Deviations")]
    for part in ("loss", "noise", "sampler", "scaling", "network"):
        if part != "sampler" or page.stem not in ("vqvae", "vqgan"):  # tokenizers, which draw nothing
            assert f"\n- {part}: " in formulas


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "systems").glob("*.md")), ids=lambda page: page.stem)
def test_a_systems_commands_follow_from_each_other(page: Path) -> None:
    """Each reads what those before it have made, in the folder where they put it, and judges on what was recorded."""
    made, task = set[str](), "pusht"
    text = page.read_text().partition("**Command**")[2]
    lines = [shlex.split(line.partition("#")[0]) for line in re.findall(r"^nextmove (.*)", text, re.M)]
    for verb, first, *rest in lines:
        option = dict(pairwise(rest))
        read = {"record": [], "train": rest[:1]}.get(verb, [first])
        read += [word.partition("=")[2] for word in rest if "=runs/" in word]
        assert not [word for word in read if word.startswith("runs/") and word not in made], f"{verb} {first}"
        task = first if verb == "record" else task
        if verb == "evaluate" and task != "pusht":
            assert option["--task"] == task
        if verb in ("record", "train"):
            out = option.get("--out", f"runs/{first}")
            assert out not in made
            made.add(out)
    assert page.stem in {words[1] for words in lines if words[0] == "train"}


def imported() -> list[tuple[str, str]]:
    """What the Python on pages imports of the library."""
    blocks = [block for page in PAGES for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)]
    nodes = [node for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
    names = {(node.module or "", alias.name) for node in nodes for alias in node.names}
    return sorted(both for both in names if both[0].partition(".")[0] == "nextmove")


@pytest.mark.parametrize(("module", "name"), imported())
def test_what_pages_import_is_there(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name) or importlib.util.find_spec(f"{module}.{name}")
