"""Batches are cut and moved whole: numbers, lists of strings and what is nested."""

import numpy as np
import pytest
import torch

from nextmove.training.parts import batch_size, numbers, part, to

BATCH = {
    "task": ["push", "pull", "push", "lift"],
    "action": torch.arange(8.0).view(4, 2),
    "image": {"top": np.arange(4)},
    "pair": ("a", "b"),
}


def test_strings_are_cut_with_the_rows_they_belong_to():
    first, last = part(BATCH, 0, 2), part(BATCH, 1, 2)
    assert first["task"] + last["task"] == BATCH["task"]
    assert first["task"] == ["push", "pull"]
    assert torch.equal(torch.cat([first["action"], last["action"]]), BATCH["action"])
    assert last["image"]["top"].tolist() == [2, 3]
    # As long as no row count: it is not by row.
    assert first["pair"] == ("a", "b")
    assert batch_size(BATCH) == 4
    with pytest.raises(ValueError, match="accumulate: expected a divisor of the 4 rows"):
        part(BATCH, 0, 3)


def test_strings_move_to_no_device_and_are_no_numbers():
    moved = to(BATCH, torch.device("meta"))
    assert moved["task"] == BATCH["task"]
    assert moved["action"].device.type == moved["image"]["top"].device.type == "meta"
    assert list(numbers(BATCH)) == ["action"]
