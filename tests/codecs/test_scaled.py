"""Scales against LeRobot's formulas in float64, their inverses, and what happens to constant and bad channels."""

import logging

import numpy as np
import pytest
import torch

from nextmove.codecs import Scaled

LEVELS = {"min_max": (0.0, 1.0), "quantiles": (0.01, 0.99), "quantile10": (0.1, 0.9)}
KEYS = {"min_max": ("min", "max"), "quantiles": ("q01", "q99"), "quantile10": ("q10", "q90")}


def values(rows=400, width=3, seed=0):
    return np.random.default_rng(seed).normal(3.0, 2.0, (rows, width)).astype(np.float32)


def stats(seed=0, constant=None):
    generator = torch.Generator().manual_seed(seed)
    low, span = torch.randn(3, generator=generator), 0.5 + torch.rand(3, generator=generator)
    if constant is not None:
        span[constant] = 0.0
    found = {"mean": low, "std": span, "min": low, "max": low + span}
    return found | {"q01": low - 1, "q99": low - 1 + span, "q10": low - 2, "q90": low - 2 + span}


def test_identity_needs_no_fit():
    codec, x = Scaled(3, mode="identity"), torch.randn(4, 3)
    assert torch.equal(codec.encode(x), x)
    assert torch.equal(codec.decode(x), x)


def test_mean_std_fit():
    codec, raw = Scaled(3), values()
    assert codec.fit(raw) == []
    x = codec.encode(torch.from_numpy(raw)).double().numpy()
    np.testing.assert_allclose(x, (raw - raw.mean(0, np.float64)) / raw.std(0, dtype=np.float64), atol=1e-5)


@pytest.mark.parametrize("mode", LEVELS)
def test_range_fit_maps_its_ends_onto_one(mode):
    codec, raw = Scaled(3, mode=mode), values()
    codec.fit(raw)
    ends = np.quantile(raw.astype(np.float64), LEVELS[mode], axis=0)
    np.testing.assert_allclose(codec.encode(torch.from_numpy(ends).float()), [[-1] * 3, [1] * 3], atol=1e-5)


@pytest.mark.parametrize("mode", ["mean_std", *LEVELS])
def test_decoding_undoes_encoding(mode):
    codec, raw = Scaled(3, mode=mode), torch.from_numpy(values())
    codec.fit(raw.numpy())
    torch.testing.assert_close(codec.decode(codec.encode(raw)), raw, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["mean_std", *LEVELS])
@pytest.mark.parametrize("value", [0.0, 0.04, 5.0, -300.1, 1e-12, 3e9])
def test_a_constant_dimension_is_decoded_as_its_value(mode, value, caplog):
    raw = values()
    raw[:, 1] = value
    codec = Scaled(3, mode=mode, name="observation.state")
    with caplog.at_level(logging.INFO):
        assert codec.fit(raw) == [1]
    assert "observation.state" in caplog.text
    x = codec.encode(torch.tensor([[3.0, value, 3.0], [3.0, 6.0, 3.0]]))
    assert x[:, 1].tolist() == [0.0, 0.0]
    planned = codec.decode(torch.tensor([[0.0, -3.0, 0.0], [0.0, 7.0, 0.0]]))
    assert planned[:, 1].tolist() == [np.float32(value)] * 2


@pytest.mark.parametrize("mode", ["mean_std", *LEVELS])
@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1e-3, 1e6, 1e12])
def test_units_carry_no_meaning(mode, unit):
    """The same numbers in another unit are the same in model space, however small the unit is."""
    raw = values(width=3)
    one, other = Scaled(3, mode=mode), Scaled(3, mode=mode)
    assert one.fit(raw) == other.fit(raw * np.float32(unit)) == []
    x = one.encode(torch.from_numpy(raw))
    torch.testing.assert_close(other.encode(torch.from_numpy(raw * np.float32(unit))), x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other.decode(x) / unit, one.decode(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["mean_std", *LEVELS])
def test_a_few_units_in_the_last_place_are_no_movement(mode):
    raw, at = values(width=3), np.float32(500.0)
    raw[:, 0] = np.where(np.arange(400) % 2, at, np.nextafter(at, np.float32(600)))  # rounding
    raw[:, 1] = 500 + np.linspace(0, 0.01, 400)  # slow, but moving
    raw[:, 2] = np.linspace(-1e-7, 1e-7, 400)  # small, but moving
    codec = Scaled(3, mode=mode)
    assert codec.fit(raw) == [0]
    assert Scaled(3, mode=mode).fit(raw - raw.mean(0), size=np.array([500.0, 500.0, 0.0])) == [0]


@pytest.mark.parametrize("mode", ["quantiles", "quantile10"])
def test_quantiles_of_a_dimension_that_seldom_moves_give_way_to_its_ends(mode):
    raw = np.zeros((1000, 1), np.float32)
    raw[5:10] = 2.0  # a gripper closed in half a percent of the frames
    codec = Scaled(1, mode=mode)
    assert codec.fit(raw) == []
    assert codec.encode(torch.tensor([[0.0], [2.0]])).flatten().tolist() == [-1.0, 1.0]
    assert codec.decode(torch.tensor([[-1.0], [1.0]])).flatten().tolist() == [0.0, 2.0]


def test_outside_the_range_is_not_clipped():
    codec = Scaled(1, mode="min_max")
    codec.fit(np.array([[0.0], [2.0]], np.float32))
    assert codec.encode(torch.tensor([[5.0]])).item() == pytest.approx(4.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_bad_dimension_is_named(bad):
    raw = values()
    raw[7, 2] = bad
    with pytest.raises(ValueError, match=r"action\[2\].*finite.*row 7"):
        Scaled(3, name="action").fit(raw)


def test_another_width_or_no_values():
    for raw in (values(width=2), values()[0], values(rows=0)):
        with pytest.raises(ValueError, match=r"\(N, 3\)"):
            Scaled(3).fit(raw)
    codec = Scaled(3, mode="identity", name="action")
    with pytest.raises(ValueError, match="action: expected width 3, found 4"):
        codec.encode(torch.zeros(2, 4))


@pytest.mark.parametrize("way", ["encode", "decode"])
def test_what_was_not_fitted_does_not_work(way):
    with pytest.raises(ValueError, match=r"action.*absent"):
        getattr(Scaled(3, name="action"), way)(torch.zeros(1, 3))


def test_statistics_travel_with_the_module():
    one, other, raw = Scaled(3, mode="quantiles"), Scaled(3, mode="quantiles"), torch.from_numpy(values())
    one.fit(raw.numpy())
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.encode(raw), other.encode(raw))


# Statistics set from another project's files


def test_set_mean_std_has_eps_on_the_way_in_only():
    codec, s, x = Scaled(3), stats(constant=1), torch.randn(5, 3)
    codec.set(s)
    torch.testing.assert_close(codec.encode(x), (x - s["mean"]) / (s["std"] + 1e-8), rtol=1e-6, atol=0)
    torch.testing.assert_close(codec.decode(x), x * s["std"] + s["mean"], rtol=1e-6, atol=1e-6)
    assert torch.equal(codec.decode(x)[:, 1], s["mean"][1].expand(5))


@pytest.mark.parametrize("mode", KEYS)
def test_set_range(mode):
    codec, s, x = Scaled(3, mode=mode), stats(), torch.randn(5, 3)
    codec.set(s)
    low, high = (s[key].double() for key in KEYS[mode])
    torch.testing.assert_close(codec.encode(x).double(), 2 * (x - low) / (high - low) - 1, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(codec.decode(x).double(), (x + 1) / 2 * (high - low) + low, rtol=1e-5, atol=1e-5)


def test_set_range_of_zero():
    """Present releases put eps in its place both ways; the value itself gives -1."""
    codec, s = Scaled(3, mode="min_max"), stats(constant=0)
    codec.set(s)
    at = s["min"][None]
    assert codec.encode(at)[0, 0] == -1
    assert codec.encode(at + 1e-3)[0, 0] == pytest.approx(2 * float((at + 1e-3 - at)[0, 0]) / 1e-8 - 1, rel=1e-5)
    torch.testing.assert_close(codec.decode(torch.ones(1, 3))[:, 0], s["min"][:1], rtol=0, atol=1e-6)


def test_set_range_of_zero_legacy():
    codec, s, x = Scaled(3, mode="min_max"), stats(constant=0), torch.randn(5, 3)
    codec.set(s, legacy=True)
    expected = (x.double() - s["min"]) / (s["max"] - s["min"] + 1e-8).double() * 2 - 1
    torch.testing.assert_close(codec.encode(x).double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(codec.decode(x)[:, 0], s["min"][0].expand(5))


@pytest.mark.parametrize("mode", ["mean_std", "min_max"])
def test_the_way_back_may_have_numbers_of_its_own(mode):
    codec, s, back, x = Scaled(3, mode=mode), stats(0), stats(1), torch.randn(5, 3)
    codec.set(s, back=back)
    forward, backward = Scaled(3, mode=mode), Scaled(3, mode=mode)
    forward.set(s)
    backward.set(back)
    assert torch.equal(codec.encode(x), forward.encode(x))
    assert torch.equal(codec.decode(x), backward.decode(x))


def test_set_takes_channel_first_shapes():
    codec, s = Scaled(3), stats()
    codec.set({"mean": s["mean"].view(3, 1, 1), "std": s["std"].view(3, 1, 1)})
    assert torch.equal(codec.shift, s["mean"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"std": None}, "action.std: expected this statistic"),
        ({"std": torch.ones(4)}, "action.std: expected 3 values, found 4"),
        ({"mean": torch.tensor([0.0, torch.inf, 0.0])}, "action.mean: expected finite"),
    ],
)
def test_bad_statistics_are_named(change, words):
    found = {name: value for name, value in {**stats(), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=words):
        Scaled(3, name="action").set(found)


def test_unknown_mode():
    with pytest.raises(ValueError, match=r"mode.*mean_std.*found 'zscore'"):
        Scaled(3, mode="zscore")
