import pytest
import torch

from nextmove.encoders import Labels


def test_a_row_per_class_and_one_for_none():
    encoder = Labels(3, 4)
    label = torch.tensor([2, 0, 2, 1])
    ctx = encoder({"label": label, "image": None}, batch=4)
    assert ctx.batch == ctx.null.batch == 4
    assert encoder.spec.vector == 4
    assert torch.equal(ctx.vector, encoder.table.weight[label])
    assert torch.equal(ctx.null.vector, encoder.table.weight[3].expand(4, 4))
    assert len({tuple(row) for row in encoder.table.weight.tolist()}) == 4


def test_without_a_label_the_model_has_no_condition():
    ctx = Labels(3, 4)({}, batch=2)
    assert torch.equal(ctx.vector, ctx.null.vector)
    assert ctx.vector.shape == (2, 4)


def test_both_halves_learn():
    encoder = Labels(3, 4)
    ctx = encoder({"label": torch.tensor([1])}, batch=1)
    (ctx.vector.sum() + 2 * ctx.null.vector.sum()).backward()
    assert encoder.table.weight.grad[:, 0].tolist() == [0.0, 1.0, 0.0, 2.0]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (torch.tensor([0, 3]), "label: expected 0 to 2, found 3"),
        (torch.tensor([-1, 0]), "label: expected 0 to 2, found -1"),
        (torch.tensor([0]), r"label: expected \(2,\) integers, found \(1,\)"),
        (torch.zeros(2, 3, dtype=torch.long), r"found \(2, 3\)"),
        (torch.tensor([0.0, 1.0]), "integers, found .* torch.float32"),
    ],
)
def test_labels_that_are_none(label, message):
    with pytest.raises(ValueError, match=message):
        Labels(3, 4)({"label": label}, batch=2)


def test_no_classes():
    with pytest.raises(ValueError, match="classes: expected at least 1, found 0"):
        Labels(0, 4)
