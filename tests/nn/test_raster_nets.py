"""What holds of every network over raster ids: its cache, what an id costs, the vector, gradients."""

import dataclasses

import pytest
import torch
from tests.nn import rasters

from nextmove.contracts import Context, ContextSpec
from nextmove.nn.pixelcnn import GatedCnn, MaskedCnn
from nextmove.nn.pixelrnn import DiagonalLstm, RowLstm

TRUNKS = pytest.mark.parametrize(
    "trunk",
    [
        MaskedCnn(width=3, layers=2, head=4, first=3),
        GatedCnn(width=3, layers=3, head=4, first=3),
        RowLstm(width=3, layers=2, head=4, first=3),
        DiagonalLstm(width=3, layers=2, head=4, first=3),
    ],
    ids=["plain", "gated", "row", "diagonal"],
)


@TRUNKS
@pytest.mark.parametrize("grid", [(4, 5, 1), (3, 2, 3), (4, 1, 2), (1, 4, 1)])
def test_cached_equals_uncached(trunk, grid):
    for width in (0, 2):
        rasters.assert_cache_changes_nothing(trunk, grid, width)


@TRUNKS
@pytest.mark.parametrize("grid", [(4, 5, 1), (3, 2, 3)])
def test_sampled_ids_are_the_same_however_they_are_read(trunk, grid):
    rasters.assert_sampled_alike(trunk, grid)


@TRUNKS
def test_an_id_costs_one_pixel(trunk):
    rasters.assert_one_pixel_of_work(trunk, (3, 4, 2))


@TRUNKS
def test_the_vector_reaches_every_logit_and_only_it_is_taken(trunk):
    net, ids = rasters.built(trunk, (4, 5, 1), condition=2), torch.zeros(1, 20, dtype=torch.long)
    one, two = (net(ids, Context(1, vector=torch.full((1, 2), float(v))), None)[0] for v in (0, 1))
    assert ((one - two).abs().amax(-1) > 1e-6).all()
    with pytest.raises(ValueError, match=r"context\.vector: expected width 2, found none"):
        net(ids, Context.empty(1), None)
    with pytest.raises(ValueError, match=r"context\.token: expected no tokens, only a vector, found width 3"):
        dataclasses.replace(trunk, grid=(2, 2, 1)).build_tokens(
            length=4, classes=2, context=ContextSpec(token=3, tokens=1)
        )


@TRUNKS
def test_wrong_lengths_are_named(trunk):
    with pytest.raises(ValueError, match=r"grid: expected rows x columns x channels = 10 ids, found \(0, 0, 0\)"):
        trunk.build_tokens(length=10, classes=2, context=ContextSpec())
    net = rasters.built(trunk, (2, 2, 1))
    _, cache = net(torch.zeros(1, 4, dtype=torch.long), Context.empty(1), None)
    for length, past in ((5, None), (1, cache)):
        with pytest.raises(ValueError, match="ids: expected at most 4 in a sequence, found 5"):
            net(torch.zeros(1, length, dtype=torch.long), Context.empty(1), past)


@TRUNKS
def test_every_parameter_gets_a_gradient_and_bfloat16_runs(trunk):
    trunk, ctx = dataclasses.replace(trunk, dropout=0.1), rasters.conditions(2, 2)
    net = rasters.built(trunk, (4, 4, 3), condition=2).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits, cache = net(torch.randint(3, (2, 40)), ctx, None)
        with torch.no_grad():
            assert net(torch.randint(3, (2, 4)), ctx, cache)[0].isfinite().all()
    logits.float().square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
