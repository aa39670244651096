import numpy as np
import pytest
import torch

from nextmove.codecs.bins import Bins
from nextmove.contracts import Codec, normal, seeded


def test_ids_and_centres_by_hand() -> None:
    codec = Bins(bins=4, width=2)
    raw = torch.tensor([[[-1.0, -0.51], [-0.5, 0.0], [0.49, 1.0]]])
    assert codec.encode(raw).tolist() == [[0, 0, 1, 2, 2, 3]]
    assert codec.decode(torch.tensor([[0, 1, 2, 3]])).tolist() == [[[-0.75, -0.25], [0.25, 0.75]]]
    assert codec.classes == 4
    assert isinstance(codec, Codec)


def test_round_trip_is_within_half_a_bin() -> None:
    raw = torch.linspace(-1, 1, 3 * 7 * 2001).view(-1, 7, 3)
    codec = Bins(width=3)
    ids = codec.encode(raw)
    assert ids.shape == (2001, 21)
    assert ids.dtype == torch.int64
    assert (int(ids.min()), int(ids.max())) == (0, 255)
    assert float((codec.decode(ids) - raw).abs().max()) <= 1 / 256 + 1e-6
    assert torch.equal(codec.encode(codec.decode(ids)), ids)
    assert codec.outside == 0.0


def test_fitted_ranges_are_each_dimension_own() -> None:
    values = normal((500, 3), seeded(0)) * torch.tensor([1.0, 100.0, 0.0]) + torch.tensor([0.0, 5.0, 3.0])
    codec = Bins(bins=32, width=3)
    codec.fit(values)
    low, high = values.min(0).values, values.max(0).values
    assert torch.equal(codec.low[:2], low[:2])
    assert torch.equal(codec.high[:2], high[:2])
    found = codec.decode(codec.encode(values[:, None]))[:, 0]
    assert found[:, 2].eq(3.0).all()  # a constant dimension is its value in every bin
    assert codec.decode(torch.arange(32).repeat_interleave(3)[None])[..., 2].eq(3.0).all()
    assert codec.outside == 0.0
    assert bool(((found - values).abs() <= (codec.high - codec.low) / 64 + 1e-4).all())
    codec.fit(values, margin=0.5)
    torch.testing.assert_close((codec.high - codec.low)[0], 2 * (high - low)[0])
    restored = Bins(bins=32, width=3)
    restored.load_state_dict(codec.state_dict())
    assert torch.equal(restored.low, codec.low)
    assert set(codec.state_dict()) == {"low", "high"}


@pytest.mark.parametrize("unit", [1e-9, 1e-5, 1e5])
def test_small_units_are_cut_into_bins_too(unit: float) -> None:
    values = unit * torch.linspace(-1, 1, 101)[:, None]
    codec = Bins(bins=10)
    codec.fit(values)
    error = codec.decode(codec.encode(values[:, None])) - values[:, None]
    assert float(error.abs().max()) <= 0.1001 * unit


def test_values_outside_are_clamped_and_counted() -> None:
    codec = Bins(width=1)
    ids = codec.encode(torch.tensor([[[-3.0], [-1.0], [1.0], [1.5]]]))
    assert ids.tolist() == [[0, 0, 255, 255]]
    assert codec.outside == 0.5
    codec.encode(torch.zeros(1, 4, 1))
    assert codec.outside == 0.25


def test_255_bins_are_those_of_openvla() -> None:
    raw = np.concatenate([np.random.default_rng(0).uniform(-1.2, 1.2, 1000), [-1.0, 1.0, 0.0]])
    edges = np.linspace(-1, 1, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    number = np.digitize(np.clip(raw, -1, 1), edges)
    theirs = centres[np.clip(number - 1, 0, 254)]
    codec = Bins(bins=255).double()
    ours = codec.encode(torch.from_numpy(raw).view(1, -1, 1))
    assert np.array_equal(ours[0].numpy(), np.clip(number - 1, 0, 254))
    np.testing.assert_allclose(codec.decode(ours).flatten().numpy(), theirs, atol=1e-9)


def test_errors_name_what_was_found() -> None:
    codec = Bins(width=2)
    with pytest.raises(ValueError, match="last dimension of width 2, found 3"):
        codec.encode(torch.zeros(1, 4, 3))
    with pytest.raises(ValueError, match="found NaN"):
        codec.encode(torch.full((1, 1, 2), torch.nan))
    with pytest.raises(ValueError, match="multiple of width 2 ids a row, found 3"):
        codec.decode(torch.zeros(1, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="ids from 0 to 255, found 0 to 256"):
        codec.decode(torch.tensor([[0, 256]]))
    with pytest.raises(ValueError, match="bins: expected at least 2, found 1"):
        Bins(bins=1)
    with pytest.raises(ValueError, match="low: expected less than high"):
        Bins(low=1.0, high=1.0)
