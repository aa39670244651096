import numpy as np
import pytest

from nextmove.evaluation import quality

rng = np.random.default_rng(0)
A, B = rng.normal(size=(300, 5)), rng.normal(size=(300, 5))


def test_samples_of_one_law_cannot_be_told_apart():
    found = quality.neighbours(A, B)
    assert abs(found.accuracy - 0.5) < 0.06
    assert quality.neighbours(A, B + 10).accuracy == 1.0


def test_copies_are_below_one_half():
    assert quality.neighbours(A, A + 1e-6 * B).accuracy == 0.0
    assert quality.nearest_distances(A + 1e-9, A).max() < 1e-6


def test_a_collapsed_generator_is_seen_on_both_sides():
    found = quality.neighbours(A, np.repeat(A[:3] + 0.3, 100, 0))
    assert found.generated == 1.0
    assert found.real > 0.8


def test_sliced_distance_of_a_shift_is_its_length_over_the_root_of_the_dimension():
    shift = np.array([3.0, 0, 0, 0, 0])
    found = quality.sliced_w2(A, A + shift, directions=20000)
    assert found == pytest.approx(3 / np.sqrt(5), rel=0.02)
    with pytest.raises(ValueError, match="equally many samples, found 300 and 200"):
        quality.sliced_w2(A, B[:200])


def test_energy_distance_is_about_zero_for_one_law_and_exact_for_points():
    assert abs(quality.energy(A, B)) < 0.02
    assert quality.energy(np.zeros((4, 1)), np.full((4, 1), 2.0)) == pytest.approx(4.0)


def test_the_reference_numbers_of_the_digits():
    """The protocol's published values: real halves, seed 0: .510 and .039; a fitted Gaussian: .860 and .064."""
    from sklearn.datasets import load_digits

    x = load_digits().data / 8 - 1
    order = np.random.default_rng(0).permutation(1797)
    a, b = x[order[:898]], x[order[898:1796]]
    assert quality.neighbours(a, b).accuracy == pytest.approx(0.510, abs=0.006)
    assert quality.sliced_w2(a, b) == pytest.approx(0.039, abs=0.002)
    value, vector = np.linalg.eigh(np.cov(a.T))
    z = np.random.default_rng(0).standard_normal(a.shape)
    gaussian = a.mean(0) + z * np.sqrt(np.maximum(value, 0)) @ vector.T
    assert quality.neighbours(gaussian, b).accuracy == pytest.approx(0.86, abs=0.03)


def test_class_shares_of_real_digits_are_theirs():
    from nextmove.data import images

    found = images("digits")
    train, test = found.train, found.test
    share = quality.class_share(test.image.numpy(), train.image.numpy(), train.label.numpy())
    true = np.bincount(test.label.numpy(), minlength=10) / len(test)
    assert np.abs(share - true).max() < 0.01
    judged = quality.judge_samples(test.image.numpy(), test.image.numpy(), train.image.numpy())
    assert judged["against_test"]["accuracy"] == 0.0
    assert 0.4 < judged["against_train"]["accuracy"] < 0.6
