"""Folders of images with a captions file: rows, images of every mode, splits, batches."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nextmove.data import DataError, Loader
from nextmove.data.image_files import read_image
from nextmove.data.image_fit import MEAN, fitted, read_fitted
from nextmove.data.pair_rows import read_captions
from nextmove.data.pairs import Pairs

COLOURS = ("red", "green", "blue", "white", "black", "yellow")


def quiet(text: str) -> None:
    """Says nothing."""


def read(folder: Path, **options: Any) -> Pairs:
    return Pairs.read(folder, size=(8, 8), say=quiet, **options)


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    for row in rows:
        for name in np.atleast_1d(row["image"]):
            if not (folder / name).exists():
                Image.new("RGB", (12, 10), Path(name).stem).save(folder / name)
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "set", [{"image": f"{c}.png", "text": f"it is {c}"} for c in COLOURS])


def test_a_batch_holds_images_and_what_is_said(folder: Path) -> None:
    pairs = read(folder)
    batch = pairs.batch([2, 0])
    assert batch["text"] == ["it is blue", "it is red"]
    assert batch["prompt"] == ["", ""]
    assert batch["kind"] == ["caption", "caption"]
    assert batch["images"].dtype == torch.uint8
    assert batch["images"].shape == (2, 1, 8, 8, 3)
    assert batch["images"][:, 0, 3, 3].tolist() == [[0, 0, 255], [255, 0, 0]]
    assert batch["images_valid"].tolist() == [[True], [True]]
    assert batch["image_ids"].tolist() == [[2], [0]]


def test_batches_depend_on_seed_and_step_alone(folder: Path) -> None:
    pairs = read(folder)
    whole = [Loader(pairs, batch=4, seed=3).step(s)["text"] for s in range(5)]
    resumed = Loader(pairs, batch=4, seed=3, start=2)
    assert [row["text"] for row, _ in zip(iter(resumed), range(3), strict=False)] == whole[2:]
    halves = [Loader(pairs, batch=4, seed=3, rank=r, world=2).step(1)["text"] for r in (0, 1)]
    assert halves[0] + halves[1] == whole[1]


def test_rows_of_several_images_and_questions(tmp_path: Path) -> None:
    rows = [
        {"image": ["red.png", "blue.png"], "question": "which?", "answer": "both", "kind": "which"},
        {"image": "red.png", "question": "what?", "answer": "red"},
    ]
    batch = read(write(tmp_path / "set", rows)).batch([0, 1])
    assert batch["images"].shape == (2, 2, 8, 8, 3)
    assert batch["images_valid"].tolist() == [[True, True], [True, False]]
    assert batch["image_ids"].tolist() == [[0, 1], [0, -1]]
    assert not batch["images"][1, 1].any()
    assert (batch["prompt"], batch["text"]) == (["which?", "what?"], ["both", "red"])
    assert batch["kind"] == ["which", "question"]


def test_a_table_reads_as_lines_do(folder: Path, tmp_path: Path) -> None:
    lines = read(folder)
    (folder / "captions.jsonl").unlink()
    rows = ["image,text", *(f'{c}.png,"it is {c}"' for c in COLOURS)]
    (folder / "captions.csv").write_text("\ufeff" + "\r\n".join(rows))
    table = read(folder)
    assert table.rows == lines.rows
    assert torch.equal(table.batch([3])["images"], lines.batch([3])["images"])


def test_several_images_of_a_table_are_a_list(folder: Path) -> None:
    (folder / "captions.jsonl").unlink()
    (folder / "captions.csv").write_text('image,question,answer\n"[""red.png"", ""blue.png""]",how many?,two\n')
    assert read(folder).rows[0].images == ("red.png", "blue.png")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1: expected a JSON object"),
        ("3", "line 1: expected a JSON object"),
        ('{"text": "a"}', "line 1: expected one of image, images, file_name, found"),
        ('{"image": "a.png"}', "line 1: expected one of text, caption, found"),
        ('{"image": "a.png", "text": " "}', "line 1: text: expected a text"),
        ('{"image": [], "text": "a"}', "line 1: image: expected a path"),
        ('{"image": "a.png", "question": "why?"}', "line 1: answer: expected a text, found None"),
        ('{"image": "a.png", "text": "a", "answer": "b"}', "found both"),
        ('{"image": "a.png", "text": "a", "split": "tests"}', "split: expected train"),
        ("", "expected rows, found none"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "captions.jsonl").write_text(line)
    with pytest.raises(DataError, match=r"captions\.jsonl") as problem:
        read_captions(tmp_path)
    assert said in str(problem.value)


def test_a_table_with_too_few_cells_is_named(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("image,text\na.png\n")
    with pytest.raises(DataError, match=r"captions\.csv, line 2: expected 2 cells"):
        read_captions(tmp_path)


def test_a_quote_that_is_not_closed_is_said(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text('image,text\na.png,"a\nb.png,b\n')
    with pytest.raises(DataError, match=r"captions\.csv: expected rows of CSV, every quote closed, found"):
        read_captions(tmp_path)


def test_a_file_that_is_no_image_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    for read in (read_image, lambda path: read_fitted(path, (8, 8))):
        with pytest.raises(DataError, match=r"a\.png: expected an image, found a file of no format that Pillow knows$"):
            read(tmp_path / "a.png")


def test_one_captions_file_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected one captions file .* found none"):
        read_captions(tmp_path)
    for name in ("captions.jsonl", "captions.csv"):
        (tmp_path / name).write_text("")
    with pytest.raises(DataError, match=r"found captions\.jsonl and captions\.csv"):
        read_captions(tmp_path)


def test_columns_that_nothing_reads_are_named(tmp_path: Path) -> None:
    found = read(write(tmp_path / "set", [{"image": "red.png", "text": "a", "licence": "none"}]))
    assert found.notes == ("captions.jsonl: columns not read: licence",)


def test_absent_images_are_counted_and_listed(folder: Path) -> None:
    (folder / "red.png").unlink()
    (folder / "blue.png").write_bytes(b"")
    with pytest.raises(DataError) as problem:
        read(folder)
    said = str(problem.value)
    assert "1 images are absent (red.png)" in said
    assert "1 images are not to be read" in said
    assert "blue.png: expected an image, found an empty file" in said
    assert "of 2 of 6 rows" in said
    assert "--leave-out-broken" in said
    rest = read(folder, leave_out_broken=True)
    assert [row.images[0] for row in rest.rows] == ["green.png", "white.png", "black.png", "yellow.png"]
    assert rest.batch([0])["images"][0, 0, 0, 0].tolist() == [0, 128, 0]
    assert rest.notes[0].startswith("left out: ")


MODES = {
    "CMYK": ("a.jpg", Image.new("CMYK", (4, 4), (0, 255, 255, 0)), (255, 0, 0)),
    "RGBA": ("a.png", Image.new("RGBA", (4, 4), (255, 0, 0, 0)), (255, 255, 255)),
    "palette": ("a.png", Image.new("RGB", (4, 4), (10, 200, 30)).convert("P", palette=1), None),
    "16 bits": ("a.png", Image.fromarray(np.full((4, 4), 257 * 100, np.uint16)), (100, 100, 100)),
    "grey": ("a.png", Image.new("L", (4, 4), 77), (77, 77, 77)),
    "black and white": ("a.png", Image.new("1", (4, 4), 1), (255, 255, 255)),
}


@pytest.mark.parametrize("mode", MODES)
def test_images_of_every_mode_are_colours(tmp_path: Path, mode: str) -> None:
    name, image, expected = MODES[mode]
    image.save(tmp_path / name)
    found = read_fitted(tmp_path / name, (4, 4))
    assert (found.shape, found.dtype) == ((4, 4, 3), np.uint8)
    wanted = expected or image.convert("RGB").getpixel((0, 0))
    assert np.abs(found[1, 1].astype(int) - wanted).max() <= 2


def test_images_without_a_white_are_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 7.0, np.float32)).save(tmp_path / "depth.tiff")
    with pytest.raises(DataError, match=r"depth\.tiff: .*floats from 7 to 7"):
        read_fitted(tmp_path / "depth.tiff", (4, 4))
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"cut\.png: expected an image"):
        read_fitted(tmp_path / "cut.png", (4, 4))
    with pytest.raises(DataError, match=r"none\.png: expected an image, found No such file"):
        read_fitted(tmp_path / "none.png", (4, 4))


def test_fits() -> None:
    # Left third red, middle green, right blue.
    row = np.repeat(np.eye(3, dtype=np.uint8) * 255, 4, axis=0)
    image = Image.fromarray(np.repeat(row[None], 4, axis=0))
    assert (fitted(image, (4, 4), "crop") == [0, 255, 0]).all()
    stretched = fitted(image, (3, 3), "stretch")
    assert stretched[1].argmax(-1).tolist() == [0, 1, 2]
    padded = fitted(image, (12, 12), "pad")
    assert (padded[[0, 3, 8, 11]] == MEAN).all()
    assert padded[5, [1, 5, 10]].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_a_store_is_made_once_and_knows_changes(folder: Path) -> None:
    said: list[str] = []
    first = Pairs.read(folder, size=(8, 8), say=said.append)
    again = Pairs.read(folder, size=(8, 8), say=said.append)
    assert len(said) == 1
    assert torch.equal(first.batch(range(6))["images"], again.batch(range(6))["images"])
    Image.new("RGB", (5, 5), "white").save(folder / "red.png")
    os.utime(folder / "red.png", ns=(1, 1))
    changed = Pairs.read(folder, size=(8, 8), say=said.append)
    assert "decoding 1 of 6" in said[-1]
    assert changed.batch([0])["images"].min() == 255
    # What was mapped stays what it was.
    assert first.batch([0])["images"][0, 0, 0, 0].tolist() == [255, 0, 0]
    assert torch.equal(pickle.loads(pickle.dumps(changed)).batch([1])["images"], changed.batch([1])["images"])


def test_a_damaged_store_is_made_anew(folder: Path) -> None:
    before = read(folder).batch(range(6))["images"]
    path = read(folder).store.path
    path.write_bytes(path.read_bytes()[:-20])
    assert torch.equal(read(folder).batch(range(6))["images"], before)


def test_the_split_of_the_file_is_kept(tmp_path: Path) -> None:
    rows = [{"image": f"{c}.png", "text": c, "split": "held-out" if c == "blue" else "train"} for c in COLOURS]
    train, test = read(write(tmp_path / "set", rows)).split()
    assert [row.text for row in test.rows] == ["blue"]
    assert len(train) == 5
    rows.append({"image": "blue.png", "text": "sky", "split": "train"})
    with pytest.raises(DataError, match=r"1 images are in rows to train on and in held-out ones, such as blue\.png"):
        read(write(tmp_path / "set", rows)).split()


def test_without_a_split_whole_images_are_held_out(tmp_path: Path) -> None:
    rows = [{"image": f"{c}.png", "text": f"{c} {i}"} for c in COLOURS for i in range(3)]
    train, test = read(write(tmp_path / "set", rows)).split()
    assert test.rows
    assert not {row.images for row in train.rows} & {row.images for row in test.rows}
    assert len(train) + len(test) == 18
    more = read(write(tmp_path / "set", [*rows, {"image": "orange.png", "text": "late"}])).split()[1]
    assert {row.images for row in test.rows} - {row.images for row in more.rows} == set()


def test_a_share_is_of_whole_images(tmp_path: Path) -> None:
    rows = [{"image": f"{c}.png", "text": f"{c} {i}"} for c in COLOURS for i in range(3)]
    pairs = read(write(tmp_path / "set", rows))
    rest, share = pairs.parted(0.34, seed=1)
    assert len(share) == 6
    assert not {row.images for row in rest.rows} & {row.images for row in share.rows}
    assert [row.text for row in pairs.parted(0.34, seed=1)[1].rows] == [row.text for row in share.rows]
    assert not len(pairs.parted(0.0, seed=1)[1])


def test_equal_images_have_one_id(folder: Path) -> None:
    (folder / "green.png").write_bytes((folder / "red.png").read_bytes())
    assert read(folder).batch([0, 1, 2])["image_ids"].flatten().tolist() == [0, 0, 2]
