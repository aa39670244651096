"""Quality of samples without a likelihood: two-sample tests, distances, class shares, and copies.

Shapes: N real samples, M generated ones, D values of each (any further axes are flattened).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Neighbours:
    """1-nearest-neighbour two-sample test (Lopez-Paz & Oquab 2017): 0.5: indistinguishable, 1: separable.

    Below 0.5 a sample's nearest neighbour is of the other kind: it was copied.
    """

    accuracy: float
    real: float
    """Share of real samples whose nearest neighbour is real."""
    generated: float


def neighbours(real: Array, generated: Array) -> Neighbours:
    """Leave-one-out accuracy of telling `real` (N, ...) from `generated` (M, ...) by squared Euclidean distance."""
    a, b = _flat(real), _flat(generated)
    both = np.concatenate([a, b])
    distance = squared_distances(both, both)
    np.fill_diagonal(distance, np.inf)
    label = np.arange(len(both)) >= len(a)
    own = label[distance.argmin(1)] == label
    return Neighbours(float(own.mean()), float(own[: len(a)].mean()), float(own[len(a) :].mean()))


def sliced_w2(real: Array, generated: Array, *, directions: int = 1000, seed: int = 0) -> float:
    """Sliced 2-Wasserstein distance of equally many samples (N, ...) each (Bonneel et al. 2015).

    Root of the mean squared difference over all ranks and `directions` Gaussian directions, normalised.
    """
    a, b = _flat(real), _flat(generated)
    if len(a) != len(b):
        raise ValueError(f"sliced_w2: expected equally many samples, found {len(a)} and {len(b)}")
    axes = np.random.default_rng(seed).standard_normal((a.shape[1], directions))
    axes /= np.linalg.norm(axes, axis=0)
    gap = np.sort(a @ axes, 0) - np.sort(b @ axes, 0)
    return float(np.sqrt((gap**2).mean()))


def energy(real: Array, generated: Array) -> float:
    """Energy distance 2 E|a - b| - E|a - a'| - E|b - b'|, without bias (Székely & Rizzo 2013); nan of one sample."""
    a, b = _flat(real), _flat(generated)
    between = np.sqrt(squared_distances(a, b)).mean()
    if min(len(a), len(b)) < 2:
        return float("nan")
    within = [np.sqrt(squared_distances(x, x)).sum() / (len(x) * (len(x) - 1)) for x in (a, b)]
    return float(2 * between - sum(within))


def nearest_distances(samples: Array, train: Array) -> Array:
    """(M,) Euclidean distance of each sample to the nearest training sample: near 0 is a copy."""
    return np.asarray(np.sqrt(squared_distances(_flat(samples), _flat(train)).min(1)))


def class_share(samples: Array, train: Array, label: Array) -> Array:
    """(K,) share of samples in each class, as a support vector machine (C = 10) fitted on the training part sees it."""
    try:
        from sklearn.svm import SVC
    except ImportError as problem:
        raise ImportError(f"class shares need scikit-learn ({problem}); pip install scikit-learn") from None
    judge = SVC(C=10, gamma="scale").fit(_flat(train), label)
    return np.asarray(np.bincount(judge.predict(_flat(samples)), minlength=int(label.max()) + 1) / len(samples))


def squared_distances(a: Array, b: Array) -> Array:
    """(N, M) squared Euclidean distances of rows, at least 0."""
    product = a @ b.T
    return np.asarray(np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * product, 0))


def judge_samples(generated: Array, test: Array, train: Array) -> dict[str, Any]:
    """Tests and distances of `generated` (M, ...) against a test set and the training set, the first min(M, N) of each.

    Values in [0, 1] are taken to [-1, 1] first. `against_train` well below 0.5 means copies.
    """
    g, t, s = (2 * _flat(x) - 1 for x in (generated, test, train))
    n = min(len(g), len(t))
    copied, real = nearest_distances(g, s), nearest_distances(t, s)
    return {
        "samples": n,
        "against_test": asdict(neighbours(t[:n], g[:n])),
        "against_train": asdict(neighbours(s[:n], g[:n])),
        "sliced_w2": sliced_w2(t[:n], g[:n]),
        "energy": energy(t[:n], g[:n]),
        "nearest_train": {"generated": float(np.median(copied)), "test": float(np.median(real))},
    }


def _flat(x: Array) -> Array:
    return np.asarray(x, np.float64).reshape(len(x), -1)
