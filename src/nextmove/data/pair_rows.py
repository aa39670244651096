"""Rows of a captions file: which images, what is asked of them and what is said of them.

`captions.jsonl` (one object a line) or `captions.csv` (with a header) in a folder of images; `metadata.*`, as other
programs call it, is read too.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextmove.data.errors import DataError
from nextmove.data.pair_tables import read_table

FILES = ("captions.jsonl", "captions.csv", "metadata.jsonl", "metadata.csv")
IMAGE = ("image", "images", "file_name")
"""Names of the column of images: a path in the folder, or a list of them."""
TEXT = ("text", "caption")
READ = (*IMAGE, *TEXT, "question", "answer", "kind", "split")
TRAIN, HELD = ("", "train"), ("held-out", "test", "validation", "val")
"""Values of `split`: what is trained on, and what never is."""
CAPTION = "caption"
ASKED = "question"
"""Kinds of rows that name none."""


@dataclass(frozen=True)
class Row:
    """One thing that is said: `text` of images, behind the question `prompt`, which is "" for a caption."""

    images: tuple[str, ...]
    text: str
    prompt: str = ""
    kind: str = CAPTION
    split: str = ""

    @property
    def held(self) -> bool:
        """Whether the file says that it is for tests."""
        return self.split in HELD


@dataclass(frozen=True)
class Captions:
    """A captions file: its path, its rows, and the columns that nothing reads."""

    path: Path
    rows: tuple[Row, ...]
    unread: tuple[str, ...]


def read_captions(folder: Path) -> Captions:
    """The captions file of a folder.

    Raises `DataError` naming file and line for a folder without one or with several, and for a row without image or
    text, with an unknown split, or that is no row at all.
    """
    there = [folder / name for name in FILES if (folder / name).is_file()]
    if len(there) != 1:
        found = " and ".join(path.name for path in there) or ("none" if folder.is_dir() else _instead(folder))
        raise DataError(f"{folder}: expected one captions file ({', '.join(FILES)}), found {found}")
    path, rows, unread = there[0], [], dict[str, None]()
    try:
        for line, values in _lines(path):
            rows.append(_row(values, f"{path}, line {line}"))
            unread |= dict.fromkeys(sorted(set(values) - {*READ}))
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: expected text in UTF-8, found {problem}; save it in UTF-8") from None
    except csv.Error as problem:
        raise DataError(f"{path}: expected rows of CSV, every quote closed, found {problem}") from None
    if not rows:
        raise DataError(f"{path}: expected rows, found none")
    return Captions(path, tuple(rows), tuple(unread))


def _instead(folder: Path) -> str:
    """What is there in place of a folder."""
    if folder.name in FILES:
        return f"a file; give the folder that holds it, {folder.parent}"
    return "a file in place of a folder" if folder.is_file() else "no such folder"


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    return _json_lines(path) if path.suffix == ".jsonl" else read_table(path, READ, IMAGE)


def _json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as problem:
                raise DataError(f"{path}, line {number}: expected a JSON object a line, found {problem}") from None
            if not isinstance(values, dict):
                found = f"{line.strip()[:40]!r}"
                raise DataError(f"{path}, line {number}: expected a JSON object a line, a row each, found {found}")
            yield number, values


def _row(values: Mapping[str, Any], where: str) -> Row:
    images = _only(values, IMAGE, where)
    paths = tuple(images) if isinstance(images, list) else (images,)
    if not paths or not all(isinstance(path, str) and path and "\0" not in path for path in paths):
        raise DataError(f"{where}: image: expected a path or a list of paths, found {images!r}")
    asked = "question" in values or "answer" in values
    if asked and any(name in values for name in TEXT):
        raise DataError(f"{where}: expected text or question and answer, found both")
    text = values.get("answer") if asked else _only(values, TEXT, where)
    prompt, kind = values.get("question", ""), values.get("kind", ASKED if asked else CAPTION)
    for name, value in (("answer" if asked else "text", text), ("question", prompt), ("kind", kind)):
        if not isinstance(value, str) or (not value.strip() and (name != "question" or asked)):
            raise DataError(f"{where}: {name}: expected a text, found {value!r}")
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise DataError(f"{where}: {name}: expected Unicode, found half of a pair of surrogates in {value!r:.60}")
    split = str(values.get("split", "") or "")
    if split not in (*TRAIN, *HELD):
        raise DataError(f"{where}: split: expected {', '.join((*TRAIN[1:], *HELD))}, found {split!r}")
    return Row(paths, str(text), str(prompt), str(kind), split)


def _only(values: Mapping[str, Any], names: tuple[str, ...], where: str) -> Any:
    found = [name for name in names if name in values]
    if len(found) != 1:
        raise DataError(f"{where}: expected one of {', '.join(names)}, found {', '.join(found) or sorted(values)}")
    return values[found[0]]
