"""Captions files as people and spreadsheets write them: what is read, and what is said of the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nextmove.data import DataError
from nextmove.data.pair_rows import Row, read_captions

ROWS = (Row(("a.png",), "a red square"), Row(("b.png",), "a blue one"))


def table(tmp_path: Path, text: str, name: str = "captions.csv") -> Path:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "head",
    ["image,text", "image;text", "image\ttext", "Image,Text", "image, text", '"image","Caption"', "Images;TEXT"],
)
def test_a_table_of_any_spreadsheet_is_read(tmp_path: Path, head: str) -> None:
    sign = next(sign for sign in ";\t," if sign in head)
    body = "\n".join([head, f"a.png{sign}a red square", "", f'b.png{sign}"a blue one"'])
    assert read_captions(table(tmp_path, body)).rows == ROWS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected rows, found none"),
        ("image,text\n", "expected rows, found none"),
        ("a.png,a dog\nb.png,a cat\n", "line 1: expected the names of the columns (image, .*found 'a.png, a dog'"),
        ("image,text,Text\na.png,a,b\n", "line 1: expected a column 'text' once, found it 2 times"),
        ("image,text\na.png,a, b\n", "line 2: expected 2 cells, as the header has, found 3; .* in double quotes"),
        ('image,text\n"[a.png",a\n', r"line 2: image: expected a path or a JSON list of paths, found '\[a.png'"),
        ("image,text\n\0,a\n", "line 2: image: expected a path"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=r"captions\.csv") as problem:
        read_captions(table(tmp_path, text))
    assert problem.match(said.replace("(image", r"\(image"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps([{"image": "a.png", "text": "a"}]), "line 1: expected a JSON object a line, a row each, found"),
        ("[" * 100_000, "line 1: expected a JSON object a line, found"),
        ('{"image": "a.png", "text": "a \\ud83d"}', "line 1: text: expected Unicode, found half of a pair"),
    ],
)
def test_what_is_wrong_with_lines_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=r"captions\.jsonl") as problem:
        read_captions(table(tmp_path, text, "captions.jsonl"))
    assert said in str(problem.value)


def test_a_folder_that_is_not_there_is_told_from_one_without_captions(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no such folder"):
        read_captions(tmp_path / "gone")
    table(tmp_path, "image,text\na.png,a\n")
    with pytest.raises(DataError, match=f"give the folder that holds it, {tmp_path}"):
        read_captions(tmp_path / "captions.csv")
