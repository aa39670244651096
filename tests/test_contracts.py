"""Draws that do not depend on batch or processes, contexts, and the mean that padding does not enter."""

from __future__ import annotations

import pytest
import torch

from nextmove.contracts import Context, KeyValue, Memory, Rows, Shard, normal, seeded, total, uniform, weighted_mean


def test_seeded_is_a_function_of_all_seeds_in_order() -> None:
    draws = [normal((4,), seeded(*s)) for s in ((1, 2), (1, 2), (2, 1), (1,), (1, 2, 0))]
    assert torch.equal(draws[0], draws[1])
    assert all(not torch.equal(draws[0], other) for other in draws[2:])


@pytest.mark.parametrize("draw", [normal, uniform])
def test_rows_do_not_depend_on_their_neighbours(draw) -> None:  # type: ignore[no-untyped-def]
    together = draw((3, 2, 5), Rows([seeded(i) for i in (7, 8, 9)]))
    alone = draw((1, 2, 5), Rows([seeded(8)]))
    assert torch.equal(together[1:2], alone)
    with pytest.raises(ValueError, match="one generator for each of 2 rows, found 1"):
        draw((2, 5), Rows([seeded(1)]))


@pytest.mark.parametrize("world", [1, 2, 4])
def test_shards_make_up_the_global_draw(world: int) -> None:
    whole = normal((8, 3), seeded(5))
    parts = [normal((8 // world, 3), Shard(seeded(5), rank, world)) for rank in range(world)]
    assert torch.equal(torch.cat(parts), whole)


def test_draws_take_the_dtype_of_like() -> None:
    assert normal((2,), seeded(1), like=torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


def full(batch: int, fill: float) -> Context:
    key = torch.full((batch, 2, 3, 4), fill)
    return Context(
        batch,
        torch.full((batch, 2), fill),
        torch.full((batch, 3, 2), fill),
        torch.ones(batch, 3, dtype=torch.bool),
        Memory((KeyValue(key, key),), None, torch.full((batch,), 3)),
    )


def test_context_repeats_rows_in_place() -> None:
    ctx = full(2, 0.0)
    ctx = ctx.replace(vector=torch.tensor([[1.0, 1], [2, 2]])).repeat(3)
    assert ctx.batch == 6
    assert ctx.vector is not None
    assert ctx.vector[:, 0].tolist() == [1, 1, 1, 2, 2, 2]
    assert ctx.memory is not None
    assert ctx.memory.layers[0] is not None
    assert ctx.memory.layers[0].keys.shape[0] == len(ctx.memory.count) == 6
    assert Context.empty(2).repeat(3).batch == 6


def test_context_where_cat_and_detach() -> None:
    mine, null = full(2, 1.0), full(2, 0.0)
    mixed = mine.where(torch.tensor([True, False]), null)
    assert mixed.vector is not None
    assert mixed.tokens is not None
    assert mixed.memory is not None
    assert mixed.memory.layers[0] is not None
    for part in (mixed.vector, mixed.tokens, mixed.memory.layers[0].values):
        assert part[0].eq(1).all()
        assert part[1].eq(0).all()
    both = mine.cat(null)
    assert both.batch == 4
    assert both.vector is not None
    assert both.vector[:, 0].tolist() == [1, 1, 0, 0]
    leaf = torch.zeros(2, 2, requires_grad=True)
    frozen = Context(2, vector=leaf * 2).detach()
    assert frozen.vector is not None
    assert not frozen.vector.requires_grad


def test_weighted_mean_ignores_padding() -> None:
    error = torch.tensor([[[1.0, 3.0], [100.0, 100.0]], [[5.0, 7.0], [9.0, 11.0]]])
    weight = torch.tensor([[True, False], [True, True]])
    assert weighted_mean(error, weight).item() == pytest.approx((1 + 3 + 5 + 7 + 9 + 11) / 6)
    assert weighted_mean(error, None).item() == pytest.approx(error.mean().item())
    assert weighted_mean(error, torch.zeros(2, 2)).item() == 0
    assert total({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}).item() == 3
