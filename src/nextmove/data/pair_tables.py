"""Captions in a table: CSV as spreadsheets write it, with a header, and commas, semicolons or tabs between cells."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from nextmove.data.errors import DataError

BETWEEN = (",", ";", "\t")
"""What stands between cells: a comma, or where spreadsheets of other countries put another sign, that one."""


def read_table(path: Path, columns: Collection[str], lists: Collection[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a table: the line that each ends on, and its cells that are not empty by the name of their column.

    columns: names that are known, in whatever case the header has them; lists: those whose cells may be JSON lists.

    Raises `DataError` naming file and line for a header without a known name or with one twice, and for a row of more
    or fewer cells than the header; `csv.Error` where a quote is not closed.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = file.readline()
        if not head.strip():
            raise DataError(f"{path}: expected rows, found none")
        sign = max(BETWEEN, key=lambda sign: len(_named(head.split(sign), columns) & set(columns)))
        file.seek(0)
        reader = csv.reader(file, delimiter=sign, strict=True)
        names = [_plain(name, columns) for name in next(reader)]
        _check_header(names, columns, path)
        for cells in reader:
            if not cells:
                continue
            where = f"{path}, line {reader.line_num}"
            if len(cells) != len(names):
                raise DataError(
                    f"{where}: expected {len(names)} cells, as the header has, found {len(cells)}; a text that holds "
                    f"{sign!r} stands in double quotes"
                )
            found: dict[str, Any] = {name: cell for name, cell in zip(names, cells, strict=True) if cell}
            for name in found.keys() & set(lists):
                found[name] = _listed(found[name], f"{where}: {name}")
            yield reader.line_num, found


def _check_header(names: list[str], columns: Collection[str], path: Path) -> None:
    if not set(names) & set(columns):
        raise DataError(
            f"{path}, line 1: expected the names of the columns ({', '.join(columns)}), found {', '.join(names)[:80]!r}"
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path}, line 1: expected a column {twice[0]!r} once, found it {names.count(twice[0])} times")


def _named(head: list[str], columns: Collection[str]) -> set[str]:
    return {_plain(name, columns) for name in head}


def _plain(name: str, columns: Collection[str]) -> str:
    """A name of the header as it is known: without blanks or quotes around it, in small letters; others unchanged."""
    plain = name.strip().strip('"').strip()
    return plain.casefold() if plain.casefold() in columns else plain


def _listed(cell: str, where: str) -> Any:
    if not cell.startswith("["):
        return cell
    try:
        return json.loads(cell)
    except json.JSONDecodeError:
        raise DataError(f"{where}: expected a path or a JSON list of paths, found {cell[:60]!r}") from None
