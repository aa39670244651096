"""Files are written in one place and processes started in one: a scan of the source finds a second way."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from tests.sources import modules

STARTS = {"multiprocessing", "subprocess", "ProcessPoolExecutor", "Popen", "os.fork", "DataLoader"}
"""Modules and names by which processes start."""
STARTERS = {
    "host/workers.py": "the one pool",
    "host/signals.py": "starts multiprocessing's resource tracker before signals are blocked",
    "data/loader.py": "torch's workers hand batches over in shared memory; a pipe would copy them",
}


def names(node: ast.AST) -> set[str]:
    """What a node imports or uses by name."""
    if isinstance(node, ast.Import):
        return {part for alias in node.names for part in alias.name.split(".")}
    if isinstance(node, ast.ImportFrom):
        return {*(node.module or "").split("."), *(alias.name for alias in node.names)}
    if isinstance(node, ast.Attribute):
        return {node.attr, *([f"{node.value.id}.{node.attr}"] if isinstance(node.value, ast.Name) else [])}
    return {node.id} if isinstance(node, ast.Name) else set()


def starting(module: ast.Module) -> set[str]:
    """The names by which a module starts processes."""
    return STARTS & {name for node in ast.walk(module) for name in names(node)}


def test_one_place_starts_processes() -> None:
    assert {path for path, module in modules().items() if starting(module)} == set(STARTERS)
    for text in (
        "from multiprocessing import Pool",
        "import subprocess",
        "futures.ProcessPoolExecutor(2)",
        "os.fork()",
    ):
        assert starting(ast.parse(text)), text


WRITES = {
    *("write_text", "write_bytes", "touch", "save", "savez", "savez_compressed", "tofile", "open_memmap", "memmap"),
    *("save_file", "serialize_file", "dump", "savefig", "imsave", "imwrite", "to_parquet", "write_table"),
    *("ParquetWriter", "rename", "mkstemp", "NamedTemporaryFile", "TemporaryFile", "symlink_to", "hardlink_to"),
    *("os.replace", "shutil.move", "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree"),
}
"""Functions and methods that write or rename files, whatever module they are from."""
MODE = re.compile(r"[rbt]*[wax+][rwbt+]*")
WRITERS = {
    "data/assemble.py _place_data: pq.ParquetWriter": "into the commit folder, synced whole before it is named",
    "data/assemble.py _place_data: writer.write_table": "the same",
    "data/assemble.py _save: pq.write_table": "the same",
    "data/assemble.py publish: os.replace": "the moves of a commit, which a crash cannot split",
    "data/draft.py _write_table: pq.write_table": "into the folder of an episode that replacing() yielded",
    "data/encode.py encode_png: Image.fromarray(frame).save": "into memory",
    "data/encode.py encode_video: av.open": "into the folder of an episode that replacing() yielded",
    "data/encode.py join_videos: av.open": "into the commit folder, synced whole before it is named",
    "evaluation/film.py film: sheet.save": "into memory",
    "evaluation/gallery.py moving: first.save": "into memory",
    "evaluation/gallery.py png: Image.fromarray(image).save": "into memory",
    "evaluation/plots.py svg: figure.savefig": "into memory",
    "evaluation/video.py mp4: av.open": "into memory",
    "host/lock.py _take: os.write": "the owner of a lock, in the file that it holds",
    "host/memory.py forget_peak: os.write": "tells the kernel to count the peak of memory anew; no file of anybody",
    "interop/openvla/exporting.py _write_part: torch.save": "into memory",
    "jobs/repeat.py writable_dir: tempfile.TemporaryFile": "tries whether the folder takes a file, and leaves none",
    "training/checkpoint.py remove: os.rename": "a folder half removed must not look whole",
    "training/sharded.py write: dcp.save": "into the folder of a checkpoint that replacing() yielded",
}
"""Calls that write without `with replacing(...)` around them, and why they may."""


def calls(node: ast.AST, function: str = "module") -> Iterator[tuple[str, ast.Call]]:
    """Every call below a node that is not in a block of `replacing`, with the function it is in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield function, child
        if isinstance(child, ast.With) and any("replacing" in names(part) for i in child.items for part in ast.walk(i)):
            continue
        inside = isinstance(child, ast.FunctionDef)
        yield from calls(child, child.name if inside else function)


def writing(module: ast.Module) -> Iterator[str]:
    """Calls that write files, as `function: callee`."""
    imported = {
        alias.asname or alias.name
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module == "nextmove.host.files"
        for alias in node.names
    }
    for function, call in calls(module):
        callee = ast.unparse(call.func)
        name = callee.rpartition(".")[2]
        constants = [v.value for v in (*call.args, *(k.value for k in call.keywords)) if isinstance(v, ast.Constant)]
        opens = name in ("open", "fdopen") and any(isinstance(v, str) and MODE.fullmatch(v) for v in constants)
        renames = name == "replace" and callee != name and len(call.args) == 1 and not call.keywords
        ours = callee in imported or callee in ("store.save", "adapters.save", "self.state.save", "state.save")
        if not ours and (opens or renames or {name, callee} & (WRITES | {"os.write"})):
            yield f"{function}: {callee}"


def test_one_place_writes_files() -> None:
    found = {
        f"{path} {write}" for path, module in modules().items() if path != "host/files.py" for write in writing(module)
    }
    assert found == set(WRITERS)


@pytest.mark.parametrize(
    "text",
    [
        "open(path, 'w')", "path.open(mode='ab')", "path.write_text(text)", "np.save(path, x)", "torch.save(x, path)",
        "np.savez(path, x=x)", "save_file(x, path)", "part.replace(path)", "os.replace(a, b)", "json.dump(x, file)",
        "table.to_parquet(path)", "Image.fromarray(x).save(path)", "av.open(path, 'w', format='mp4')",
    ],
)  # fmt: skip
def test_a_second_way_to_write_is_found(text: str) -> None:
    assert list(writing(ast.parse(text))), text
    assert list(writing(ast.parse(f"def f():\n    with replacing(path) as part:\n        pass\n    {text}"))) != []
    assert not list(writing(ast.parse(f"with replacing(path) as part:\n    {text}")))


@pytest.mark.parametrize("text", ["open(path)", "path.open('rb')", "text.replace('a', 'b')", "replace(x, y=1)"])
def test_what_writes_nothing_is_let_be(text: str) -> None:
    assert not list(writing(ast.parse(text))), text
