import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nextmove.decoders.sampling import Sampling, allow, draw, min_p, no_repeat, repetition, top_k, top_p

INF = torch.inf
GOLDEN = Path(__file__).parents[1] / "golden" / "sampling"


def kept(logits: Tensor) -> list[list[int]]:
    """The classes left in each row."""
    return [row.isfinite().nonzero()[:, 0].tolist() for row in logits]


def logs(*shares: float) -> Tensor:
    return torch.tensor([shares], dtype=torch.float64).log()


def test_top_k_keeps_ties_at_the_kth() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0, 0.0], [5.0, 4.0, 3.0, 2.0, 1.0]])
    assert kept(top_k(logits, 2)) == [[1, 2, 3], [0, 1]]
    assert kept(top_k(logits, 1)) == [[1], [0]]
    for off in 0, 5, 9:
        assert torch.equal(top_k(logits, off), logits)


def test_top_p_removes_from_the_bottom_what_sums_to_at_most_one_minus_p() -> None:
    shares = logs(0.1, 0.5, 0.15, 0.25)
    # ascending: .1, .15, .25, .5; cumulative: .1, .25, .5, 1
    assert kept(top_p(shares, 0.95)) == [[0, 1, 2, 3]]  # .1 > .05
    assert kept(top_p(shares, 0.89)) == [[1, 2, 3]]
    assert kept(top_p(shares, 0.7)) == [[1, 3]]  # .25 <= .3
    assert kept(top_p(shares, 0.51)) == [[1, 3]]  # the class that crosses stays
    assert kept(top_p(shares, 0.49)) == [[1]]
    assert kept(top_p(shares, 1e-9)) == [[1]]
    assert torch.equal(top_p(shares, 1.0), shares)
    # Cumulative .25, .5, .75, 1 exactly: the class that reaches 1 - p goes too.
    assert len(kept(top_p(torch.zeros(1, 4), 0.5))[0]) == 2


def test_min_p_is_a_share_of_the_likeliest() -> None:
    shares = logs(0.1, 0.5, 0.15, 0.25)
    assert kept(min_p(shares, 0.29)) == [[1, 2, 3]]
    assert kept(min_p(shares, 0.31)) == [[1, 3]]
    assert kept(min_p(shares, 1.0)) == [[1]]
    assert torch.equal(min_p(shares, 0.0), shares)


def test_filters_come_after_temperature_in_their_order() -> None:
    # At temperature 2 the shares become (4, 3, 2, 1) / 10: flatter, so that top-p keeps more than it would before.
    shares = logs(16 / 30, 9 / 30, 4 / 30, 1 / 30)
    assert kept(Sampling(temperature=1.0, top_p=0.8).filter(shares)) == [[0, 1]]
    assert kept(Sampling(temperature=2.0, top_p=0.8).filter(shares)) == [[0, 1, 2]]
    # top-k first: of (4, 3) / 7 the smaller is above 1 - .6, so both stay; of all four it alone would go
    assert kept(Sampling(temperature=2.0, top_k=2, top_p=0.6).filter(shares)) == [[0, 1]]
    assert kept(Sampling(temperature=2.0, top_p=0.6, min_p=0.8).filter(shares)) == [[0]]
    torch.testing.assert_close(
        Sampling(temperature=2.0).filter(shares).softmax(-1), torch.tensor([[0.4, 0.3, 0.2, 0.1]]).double()
    )


def test_temperature_zero_is_the_first_of_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0], [1.0, -INF, 0.0]])
    assert kept(Sampling(temperature=0.0).filter(logits)) == [[1], [0]]


def test_draw_is_the_inverse_of_the_cumulative_distribution() -> None:
    logits = logs(0.2, 0.0, 0.5, 0.3).expand(6, 4)
    u = torch.tensor([0.0, 0.199, 0.2001, 0.699, 0.7001, 1 - 2**-24])
    assert draw(logits, u).tolist() == [0, 0, 2, 2, 3, 3]
    first_impossible, last_impossible = logs(0.0, 1.0), logs(1.0, 0.0)
    assert draw(first_impossible, torch.zeros(1)).tolist() == [1]
    assert draw(last_impossible, torch.tensor([1 - 2**-24])).tolist() == [0]


def test_draw_over_many_classes_is_even() -> None:
    u = (torch.arange(100_000) + 0.5) / 100_000
    ids = draw(torch.zeros(1, 50_000).expand(100_000, -1)[:: 100_000 // 200], u[:: 100_000 // 200])
    assert ids.tolist() == [int(v * 50_000) for v in u[:: 100_000 // 200].tolist()]


def test_allow_leaves_only_what_is_allowed() -> None:
    logits = torch.zeros(2, 3)
    assert kept(allow(logits, torch.tensor([True, False, True]))) == [[0, 2], [0, 2]]
    mask = torch.tensor([[True, False, False], [False, False, True]])
    assert kept(allow(logits, mask)) == [[0], [2]]
    with pytest.raises(ValueError, match="at least one class for every row"):
        allow(logits, torch.tensor([[True, True, True], [False, False, False]]))


def test_repetition_makes_what_occurred_less_likely_once() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0, 0.0]])
    before = torch.tensor([[0, 1, 1, 0, 3]])
    assert repetition(logits, before, 2.0).tolist() == [[1.0, -4.0, 1.0, 0.0]]
    assert repetition(logits, before[:, :0], 2.0) is logits
    assert repetition(logits, before, 1.0) is logits


def test_no_run_of_n_occurs_twice() -> None:
    logits, before = torch.zeros(2, 4), torch.tensor([[1, 2, 3, 1, 2], [0, 0, 0, 1, 1]])
    assert kept(no_repeat(logits, before, 1)) == [[0], [2, 3]]
    assert kept(no_repeat(logits, before, 2)) == [[0, 1, 2], [0, 2, 3]]
    assert kept(no_repeat(logits, before, 3)) == [[0, 1, 2], [0, 1, 2, 3]]
    for off in 0, 6:
        assert no_repeat(logits, before, off) is logits
    # A run of n - 1 ids so far is none yet.
    assert kept(no_repeat(logits, before[:, :2], 3)) == [[0, 1, 2, 3]] * 2


def test_choose_is_the_draw_of_the_filtered() -> None:
    logits, u = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)), torch.rand(500)
    for sampling in Sampling(), Sampling(0.5, 3), Sampling(temperature=0.0):
        assert torch.equal(sampling.choose(logits, u), draw(sampling.filter(logits), u))


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"repetition": math.nan},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": 2.0},
        {"repetition": 0.0},
        {"no_repeat": -1},
    ],
)
def test_ranges_are_checked(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Sampling(**bad)  # type: ignore[arg-type]


def test_filters_are_those_of_transformers() -> None:
    golden, params = load_file(GOLDEN / "io.safetensors"), json.loads((GOLDEN / "params.json").read_text())
    scores, before = golden["in.scores"], golden["in.input_ids"]
    found = {name: function(scores, params[name]) for name, function in _FILTERS.items()}
    found["temperature"] = Sampling(params["temperature"]).filter(scores)
    found["repetition"] = repetition(scores, before, params["repetition_penalty"])
    found["no_repeat_2gram"] = no_repeat(scores, before, 2)
    rules = Sampling(params["temperature"], params["top_k"], params["top_p"], repetition=params["repetition_penalty"])
    found["chain"] = rules.filter(rules.penalise(scores, before))
    found["chain_probs"] = found["chain"].softmax(-1)
    assert {f"out.{name}" for name in found} == {name for name in golden if name.startswith("out.")}
    for name, value in found.items():
        assert torch.equal(value.clamp_min(-1e9), golden[f"out.{name}"]), name


_FILTERS = {"top_k": top_k, "top_p": top_p, "min_p": min_p}
