"""Kneser-Ney against the formula written out, and that every context's probabilities sum to one."""

from collections import Counter

import numpy as np
import pytest

from nextmove.evaluation.ngram import KneserNey, best_order


def by_the_formula(train, before, w, classes, order):
    """p(w | before) with dictionaries and recursion."""

    def grams(n):
        return Counter(tuple(train[i : i + n]) for i in range(len(train) - n + 1))

    def p(n, context, w):
        if n == 0:
            return 1 / classes
        count = grams(n)
        if n < order:
            count = Counter({g: sum(longer[1:] == g for longer in grams(n + 1)) for g in count})
        once, twice = (sum(c == k for c in count.values()) for k in (1, 2))
        discount = once / (once + 2 * twice) if once else 0.5
        followers = [c for g, c in count.items() if g[:-1] == context]
        if not sum(followers):
            return p(n - 1, context[1:], w)
        lower = discount * sum(c > 0 for c in followers) * p(n - 1, context[1:], w)
        return (max(count[(*context, w)] - discount, 0) + lower) / sum(followers)

    context = tuple(before[max(0, len(before) - order + 1) :])
    return p(len(context) + 1, context, w)


@pytest.fixture(scope="module")
def ids():
    rng = np.random.default_rng(0)
    return np.repeat(rng.integers(0, 5, 90), rng.integers(1, 3, 90)) % 4


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_equals_the_formula(ids, order):
    model, held = KneserNey(ids, classes=5, order=5), np.array([0, 1, 1, 2, 3, 3, 0, 4, 0, 2])
    found = np.exp(model.log_prob(held, order))
    expected = [by_the_formula(ids.tolist(), held[:i].tolist(), held[i], 5, order) for i in range(len(held))]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_probabilities_sum_to_one_in_any_context(ids, order):
    model = KneserNey(ids, classes=5, order=6)
    for before in ([], [0], [4], [1, 2, 3], [3, 3, 3, 3, 3, 3], [0, 1, 1, 2, 2, 0, 3], ids[-6:].tolist()):
        p = model.probabilities(np.array(before, np.int64), order)
        assert p.min() > 0
        assert p.sum() == pytest.approx(1, abs=1e-12)


def test_best_order_is_the_one_of_the_source():
    rng = np.random.default_rng(1)
    table = rng.dirichlet(np.full(6, 0.2), (6, 6))
    x = [0, 0]
    for u in rng.random(30_000):
        x.append(int(np.searchsorted(table[x[-2], x[-1]].cumsum(), u)))
    x = np.minimum(x, 5)
    order, nats = best_order(x[:25_000], x[25_000:], classes=6, orders=range(1, 7))
    assert order == 3
    entropy = -np.log(table[x[25_000:-2], x[25_001:-1], x[25_002:]]).mean()
    assert nats[3] == pytest.approx(entropy, abs=0.02)
    assert KneserNey(x[:25_000], classes=6, order=3).nats(x[25_000:]) == nats[3]


def test_a_corpus_shorter_than_the_order_and_a_single_class():
    assert KneserNey(np.array([1, 0]), classes=2, order=9).probabilities(np.array([1])).sum() == pytest.approx(1)
    assert KneserNey(np.zeros(9, np.int64), classes=1, order=3).nats(np.zeros(5, np.int64)) == pytest.approx(0)


@pytest.mark.parametrize(
    ("ids", "order", "message"),
    [
        ([], 2, "ids: expected a row of at least one id"),
        ([0, 7], 2, "ids: expected 0 to 4, found 0 to 7"),
        ([0, 1], 0, "order: expected at least 1, found 0"),
    ],
)
def test_wrong_input_is_named(ids, order, message):
    with pytest.raises(ValueError, match=message):
        KneserNey(np.array(ids, np.int64), classes=5, order=order)
