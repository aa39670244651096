"""Images are read as they are meant, whatever a program or a phone made of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.data.sets import columns

from nextmove.data import DataError, Images, images, open_dataset, texts
from nextmove.data.image_files import read_image

HALVES = np.zeros((16, 12, 3), np.uint8)
"""Orange above, blue below; what every file of the table shows."""
HALVES[:8], HALVES[8:] = (250, 130, 10), (10, 40, 240)
GREY = HALVES[..., 0]
WIDE = GREY.astype(np.uint16) * 257


def saved(image: Image.Image, suffix: str = ".png", **options: Any) -> bytes:
    """The image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:].upper()), **options)
    return buffer.getvalue()


def turned(orientation: int, suffix: str, *, stored: np.ndarray) -> bytes:
    """A file that stores `stored` and says in its EXIF how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.fromarray(stored), suffix, exif=exif, **({"quality": 98} if suffix == ".jpg" else {}))


def palette() -> Image.Image:
    return Image.fromarray(HALVES).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)


def seen_through() -> Image.Image:
    """Orange above; below it lets all of the background through, and hides red."""
    alpha = np.zeros((16, 12, 1), np.uint8)
    alpha[:8] = 255
    hidden = HALVES.copy()
    hidden[8:] = (255, 0, 0)
    return Image.fromarray(np.concatenate([hidden, alpha], 2))


RGB, LIGHT = HALVES / 255, np.repeat(GREY[..., None] / 255, 3, 2)
ON_WHITE = np.concatenate([RGB[:8], np.ones((8, 12, 3))])
LYING = np.rot90(HALVES)
LUMA = np.asarray(Image.fromarray(HALVES[:8]).convert("L"))[..., None] / 255
LA = np.concatenate([np.repeat(LUMA, 3, 2), np.ones((8, 12, 3))])
FILES: dict[str, tuple[str, Callable[[], bytes], np.ndarray]] = {
    "colours": (".png", lambda: saved(Image.fromarray(HALVES)), RGB),
    "grey": (".png", lambda: saved(Image.fromarray(GREY)), LIGHT),
    "grey of 16 bits": (".png", lambda: saved(Image.fromarray(WIDE)), LIGHT),
    "grey of 16 bits, tiff": (".TIFF", lambda: saved(Image.fromarray(WIDE), ".tif"), LIGHT),
    "grey of 16 bits, big-endian": (".tif", lambda: saved(Image.fromarray(WIDE.astype(">u2")), ".tif"), LIGHT),
    "floats in [0, 1]": (".tif", lambda: saved(Image.fromarray(GREY.astype(np.float32) / 255), ".tif"), LIGHT),
    "black and white": (".png", lambda: saved(Image.fromarray(GREY > 99)), LIGHT.round()),
    "palette": (".png", lambda: saved(palette()), RGB),
    "cmyk": (".jpg", lambda: saved(Image.fromarray(HALVES).convert("CMYK"), ".jpg", quality=98), RGB),
    "cmyk, tiff": (".tif", lambda: saved(Image.fromarray(HALVES).convert("CMYK"), ".tif"), RGB),
    "alpha": (".png", lambda: saved(seen_through()), ON_WHITE),
    "alpha, webp": (".webp", lambda: saved(seen_through(), ".webp", lossless=True), ON_WHITE),
    "grey with alpha": (".png", lambda: saved(seen_through().convert("LA")), LA),
    "a transparent colour of a palette": (
        ".png",
        lambda: saved(palette(), transparency=int(np.asarray(palette())[-1, 0])),
        ON_WHITE,
    ),
    "lying, jpeg": (".jpg", lambda: turned(6, ".jpg", stored=LYING), RGB),
    "lying, png": (".png", lambda: turned(6, ".png", stored=LYING), RGB),
    "upside down": (".jpeg", lambda: turned(3, ".jpg", stored=HALVES[::-1, ::-1]), RGB),
    "mirrored": (".webp", lambda: turned(4, ".webp", stored=HALVES[::-1]), RGB),
    "lying, 16 bits": (
        ".tif",
        lambda: saved(Image.fromarray(np.ascontiguousarray(np.rot90(WIDE))), ".tif", tiffinfo={0x0112: 6}),
        LIGHT,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_read_as_it_is_meant(kind: str, tmp_path: Path) -> None:
    suffix, make, expected = FILES[kind]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(make())
    found, through = read_image(path)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.abs(found - expected).mean() < (0.06 if "jp" in suffix or suffix == ".webp" else 0.004)
    assert through == ("alpha" in kind or "transparent" in kind)


NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "floats beyond 1": (lambda: saved(Image.fromarray(GREY.astype(np.float32)), ".tif"), r"floats from 10 to 250"),
    "NaN": (lambda: saved(Image.fromarray(np.full((4, 4), np.nan, np.float32)), ".tif"), r"floats from nan to nan"),
    "32 bits": (lambda: saved(Image.fromarray(WIDE.astype(np.int32) << 8), ".tif"), r"whole numbers of 32 bits"),
    "empty": (lambda: b"", r"a file of no format that Pillow knows"),
    "cut off": (lambda: saved(Image.fromarray(NOISE))[:900], r"image file is truncated"),
    "text": (lambda: b"<html>404</html>", r"a file of no format that Pillow knows"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_shows_nothing_is_named(kind: str, tmp_path: Path) -> None:
    make, message = REFUSED[kind]
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).write_bytes(make())
    with pytest.raises(DataError, match=rf"a\.tif: expected an image, found .*{message}"):
        images(tmp_path)


def test_what_systems_leave_behind_is_passed_over(tmp_path: Path) -> None:
    for place in ("cats", "dogs"):
        (tmp_path / place).mkdir()
        for i in range(6):
            (tmp_path / place / f"{i}.png").write_bytes(saved(Image.fromarray(np.full((9, 9), 9 * i, np.uint8))))
    left = ("cats/._1.png", "cats/.ipynb_checkpoints/1-checkpoint.png", ".thumbnails/1.png", "__MACOSX/cats/1.png")
    for name in (*left, "cats/Thumbs.db", ".DS_Store", "dogs/sub.png/desktop.ini", "._a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    found = images(tmp_path, size=8)
    assert (len(found.train) + len(found.test), found.train.classes, found.notes) == (12, 2, ())
    (tmp_path / "a.txt").write_text("told")
    assert texts.text(tmp_path) == "told"


def test_transparent_images_are_said_to_be_shown_on_white(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.png").write_bytes(saved(seen_through() if i < 2 else Image.fromarray(HALVES)))
    assert images(tmp_path, size=8).notes == ("2 of 5 images are transparent in parts: shown on white",)
    assert isinstance(images(tmp_path).train, Images)


def test_images_inside_a_data_set_are_read_the_same_way(tmp_path: Path) -> None:
    from nextmove.data import DatasetWriter

    camera = {"observation.images.skin": {"dtype": "image", "shape": [16, 12, 3]}}
    writer = DatasetWriter(tmp_path / "set", {"action": {"dtype": "float32", "shape": [2]}, **camera}, 10)
    kinds = [k for k in FILES if "JPEG" not in k]
    writer.add_episode({"action": columns(len(kinds), 0)["action"], next(iter(camera)): [HALVES] * len(kinds)}, "x")
    path = next((writer.finalize() / "data").rglob("*.parquet"))
    (path.parent / f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
    table = pq.read_table(path)
    place = table.schema.get_field_index(next(iter(camera)))
    blobs = [{"bytes": FILES[k][1](), "path": None} for k in kinds]
    column = pa.array(blobs, table.schema.field(place).type)
    pq.write_table(table.set_column(place, table.schema.field(place), column), path)
    frames = open_dataset(tmp_path / "set").video(next(iter(camera))).frames(np.arange(len(kinds)))
    for kind, frame in zip(kinds, frames, strict=True):
        assert np.abs(frame / 255 - FILES[kind][2]).mean() < 0.06, kind
    broken = pa.array([*blobs[:-1], {"bytes": b"no image", "path": None}], table.schema.field(place).type)
    pq.write_table(table.set_column(place, table.schema.field(place), broken), path)
    row = len(kinds) - 1
    with pytest.raises(
        DataError, match=rf"file-000\.parquet: 'observation.images.skin', episode 0, frame {row}: no image"
    ):
        open_dataset(tmp_path / "set").video(next(iter(camera))).frames(np.array([row]))


def test_a_folder_of_equal_images_is_read_and_said_to_be_one(tmp_path: Path) -> None:
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(saved(Image.fromarray(HALVES)))
    found = images(tmp_path, size=8)
    assert (len(found.train), len(found.test)) == (3, 1)
    assert found.notes == ("all 4 images are equal: what is kept for tests is trained on",)
