import pytest
import torch

from nextmove.data import DataError, texts


def test_windows_for_training_overlap_and_those_for_judging_lie_end_to_end():
    ids = torch.arange(10)
    train, held = texts.windows(ids, 4, training=True), texts.windows(ids, 4, training=False)
    assert len(train) == 7
    assert train.batch([0, 6])["ids"].tolist() == [[0, 1, 2, 3], [6, 7, 8, 9]]
    assert held.batch(range(len(held)))["ids"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(DataError, match="expected at least 11 ids for one window, found 10"):
        texts.windows(ids, 11, training=True)


def test_the_last_tenth_is_held_out():
    train, test = texts.split_text("abcdefghij" * 10)
    assert (len(train), len(test)) == (90, 10)
    assert train + test == "abcdefghij" * 10


def test_files_and_folders(tmp_path):
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.txt").write_text("first")
    assert texts.text(tmp_path) == "first\nsecond"
    assert texts.text(tmp_path / "b.txt") == "second"
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"c\.txt: expected UTF-8"):
        texts.text(tmp_path)
    (tmp_path / "empty.md").write_text(" \n")
    with pytest.raises(DataError, match="expected text, found an empty corpus"):
        texts.text(tmp_path / "empty.md")
    with pytest.raises(DataError, match="expected shakespeare, stdlib, a text file or a folder"):
        texts.text("shakspeare")


def test_named_texts():
    assert "def dataclass(" in texts.text("stdlib")
    plays = texts.text("shakespeare")
    assert 5_000_000 < len(plays) < 5_100_000
    assert "To be, or not to be" in plays
