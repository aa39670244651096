"""One writer and one reader of tensors: shared ones once, everything by value, little memory, errors by name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from nextmove import weights
from nextmove.config import ConfigError
from nextmove.weights import files


def test_a_shared_tensor_is_written_once_and_read_as_one(tmp_path: Path) -> None:
    w = torch.randn(64, 64)
    weights.write(tmp_path / "w", {"a": w, "b": w, "view": w.view(-1), "row": w[1], "turned": w.T})
    with safe_open(tmp_path / "w", "pt") as file:
        assert sorted(file.keys()) == ["a", "row", "turned", "view"]
        assert json.loads(file.metadata()["tied"]) == {"b": "a"}
    found = weights.read(tmp_path / "w")
    assert found["a"] is found["b"]
    assert torch.equal(found["a"], w)
    assert torch.equal(found["view"], w.view(-1))
    assert torch.equal(found["row"], w[1])
    assert torch.equal(found["turned"], w.T)


@pytest.mark.parametrize("group", [1, 2**20], ids=["one by one", "together"])
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_values_come_back_whatever_the_way(tmp_path, monkeypatch, group, mapped, dtype) -> None:
    monkeypatch.setattr(files, "GROUP", group)
    made = {"half": torch.randn(5, 3).bfloat16(), "whole": torch.arange(4), "empty": torch.zeros(0, 2)}
    weights.write(tmp_path / "w", {**made, "number": torch.tensor(2.5)})
    found = weights.read(tmp_path / "w", dtype=dtype, mapped=mapped)
    assert found["half"].dtype == (dtype or torch.bfloat16)
    assert found["whole"].dtype == torch.int64
    assert found["number"] == 2.5
    for name, value in made.items():
        assert torch.equal(found[name], value.to(found[name].dtype)), name
    found["half"].zero_()
    assert torch.equal(weights.read(tmp_path / "w")["half"], made["half"])


@pytest.mark.parametrize("note", ["[", "[1]", '{"b": "c"}', '"b"', '{"b": []}'])
def test_a_broken_note_of_shared_tensors_is_named(tmp_path: Path, note: str) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w", metadata={"tied": note})
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path}/w: metadata: tied: expected JSON")):
        weights.read(tmp_path / "w")


class Twins(torch.nn.Module):
    """Two layers of one weight, and a table that no file holds."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.nn.Parameter(torch.randn(4, 4))
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.first.weight = weight
        self.second.weight = weight
        self.second.bias.requires_grad_(False)
        self.register_buffer("table", torch.arange(4.0), persistent=False)
        self.register_buffer("scale", torch.ones(4))


def empty() -> Twins:
    with weights.without_storage():
        return Twins()


def test_models_built_without_storage_allocate_no_weight_and_share_as_usual() -> None:
    built = empty()
    assert all(p.is_meta for p in built.parameters())
    assert built.first.weight is built.second.weight
    assert torch.equal(built.table, torch.arange(4.0))
    assert not torch.nn.Linear(2, 2).weight.is_meta
    with pytest.raises(ConfigError, match=r"here: first\.weight: expected a value, found none"):
        weights.check_filled(built, "here")


def test_shared_parameters_stay_shared(tmp_path: Path) -> None:
    original, built = Twins(), empty()
    weights.write(tmp_path / "w", original.state_dict())
    tensors = weights.read(tmp_path / "w")
    weights.assign(built, tensors, where="here")
    weights.check_filled(built, "here")
    assert built.first.weight is built.second.weight
    assert built.first.weight.data_ptr() == tensors["first.weight"].data_ptr()
    assert built.first.weight.requires_grad
    assert not built.second.bias.requires_grad
    x = torch.randn(3, 4)
    assert torch.equal(built.second(built.first(x)), original.second(original.first(x)))


def test_shared_parameters_may_come_under_any_of_their_names() -> None:
    state = {name: value.clone() for name, value in Twins().state_dict().items()}
    for left in ("first.weight", "second.weight"):
        built = empty()
        weights.assign(built, {n: v for n, v in state.items() if n != left}, where="here")
        assert built.first.weight is built.second.weight
        assert torch.equal(built.first.weight, state["first.weight"])
    weights.assign(empty(), state, where="here")
    with pytest.raises(ConfigError, match=r"here: second\.weight: expected the values of first\.weight"):
        weights.assign(empty(), {**state, "second.weight": state["second.weight"] + 1}, where="here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("scale"), "here: missing tensor 'scale'"),
        (lambda s: [s.pop("first.weight"), s.pop("second.weight")], "here: missing tensor 'first.weight'"),
        (lambda s: s.update(scales=s.pop("scale")), "missing tensor 'scale', did you mean 'scales'"),
        (lambda s: s.update(scale=torch.ones(3)), r"here: scale: expected shape \(4,\), found \(3,\)"),
        (
            lambda s: s.update(scale=torch.ones(4).long()),
            "here: scale: expected values of torch.float32, found",
        ),
        (
            lambda s: s.update(scale=torch.full((4,), torch.inf)),
            "here: scale: expected finite values, found NaN",
        ),
        (lambda s: s.update(other=torch.ones(4)), "here: tensor 'other' belongs to no part of the policy"),
    ],
)
def test_what_does_not_fit_is_named(change, message: str) -> None:
    state = Twins().state_dict()
    change(state)
    with pytest.raises(ConfigError, match=message):
        weights.assign(empty(), state, where="here", whole="policy", finite=True)


def test_a_digest_tells_values_shapes_and_kinds_apart() -> None:
    w = torch.randn(3, 5)
    others = [w + 1e-6, w.view(5, 3), w.bfloat16(), w.T, torch.zeros(3, 5), w.view(torch.int32), torch.tensor(0.0)]
    assert len({weights.digest(value) for value in [w, *others]}) == len(others) + 1
    assert weights.digest(w) == weights.digest(w.clone()) == weights.digest(w.T.contiguous().T)
