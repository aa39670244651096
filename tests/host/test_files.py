"""Files and folders have all of their content or are as they were, and an error of the disk names them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nextmove.host import files


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, temporary files included."""
    return {str(p.relative_to(folder)): None if p.is_dir() else p.read_bytes() for p in folder.rglob("*")}


def fill(part: Path, kind: str) -> None:
    """A file, or a folder of one."""
    if kind == "folder":
        part.mkdir()
        part /= "inner"
    part.write_bytes(b"after")


def interrupt(path: Path, kind: str, problem: Callable[[Path], BaseException]) -> None:
    """Raises in the middle of a write."""
    with files.replacing(path) as part:
        fill(part, kind)
        raise problem(part)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_path_appears_when_the_block_ends(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "made" / "path"
    with files.replacing(path) as part:
        fill(part, kind)
        assert not path.exists()
    assert tree(path.parent) == ({"path": b"after"} if kind == "file" else {"path": None, "path/inner": b"after"})


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), ValueError("bad"), OSError(errno.ENOSPC, "no space")])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_interrupted_block_leaves_what_was_there(tmp_path: Path, kind: str, problem: BaseException) -> None:
    path = tmp_path / "path"
    path.write_bytes(b"before")
    with pytest.raises(type(problem)):
        interrupt(path, kind, lambda _: problem)
    assert tree(tmp_path) == {"path": b"before"}


def test_content_is_synced_before_it_has_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    path = tmp_path / "path"
    monkeypatch.setattr(files, "sync", lambda p: synced.append((p.name, path.exists())))
    with files.replacing(path) as part:
        fill(part, "folder")
    assert synced == [("inner", False), (part.name, False), (tmp_path.name, True)]


@pytest.mark.parametrize(
    ("where", "named"),
    [(lambda part: None, "path"), (lambda part: str(part), "path"), (lambda part: f"{part}/inner", "path/inner")],
)
def test_an_error_of_the_disk_names_the_file_not_its_temporary_name(tmp_path: Path, where, named) -> None:
    with pytest.raises(OSError, match="No space left") as problem:
        interrupt(tmp_path / "path", "folder", lambda part: OSError(errno.ENOSPC, "No space left", where(part)))
    assert problem.value.filename == str(tmp_path / named)
    assert problem.value.errno == errno.ENOSPC
    assert tree(tmp_path) == {}


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "a[b]*"
    code = (
        "import os, sys; from pathlib import Path; from nextmove.host.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as part:\n"
        "    part.write_text('half'); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code, str(path)], env=environment, check=False, timeout=60)
    assert len(tree(tmp_path)) == 1
    alive = tmp_path / f".a[b]*.{os.getppid()}.part"
    alive.write_text("of a process that lives")
    files.write_text(path, "whole")
    assert tree(tmp_path) == {"a[b]*": b"whole", alive.name: b"of a process that lives"}


def test_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    path, value = tmp_path / "a" / "b.json", {"name": "Zoë", "steps": [1, 2.5, None, True]}
    files.write_json(path, value)
    assert files.read_json(path) == value == json.loads(path.read_bytes())
    assert "Zoë" in path.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="Out of range float"):
        files.write_json(path, float("nan"), allow_nan=False)
    assert files.read_json(path) == value
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / "none.json")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_what_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    class OwnError(ValueError):
        pass

    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(OwnError, match=r"x\.json: not valid JSON"):
        files.read_json(path, OwnError)
