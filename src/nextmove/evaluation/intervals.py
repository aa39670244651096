"""Success rates of k successes in n episodes with confidence intervals."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """A success rate with its confidence interval."""

    successes: int
    episodes: int
    low: float
    high: float
    confidence: float = 0.95

    @property
    def rate(self) -> float:
        """Successes per episode."""
        return self.successes / self.episodes

    def __str__(self) -> str:
        percent = f"{100 * self.rate:.0f} %, {100 * self.confidence:g} % interval"
        return f"{self.successes}/{self.episodes} ({percent} {100 * self.low:.0f} to {100 * self.high:.0f})"


def _check(successes: int, episodes: int, confidence: float) -> None:
    if episodes < 1 or not 0 <= successes <= episodes:
        raise ValueError(f"successes: expected 0 to {episodes} in at least one episode, found {successes}/{episodes}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a share between 0 and 1, found {confidence}")


def wilson(successes: int, episodes: int, *, confidence: float = 0.95) -> Rate:
    """The score interval of a share (Wilson 1927), right also near 0 and 1 and with few episodes."""
    _check(successes, episodes, confidence)
    from scipy.stats import binomtest

    found = binomtest(successes, episodes).proportion_ci(confidence, method="wilson")
    return Rate(successes, episodes, float(found.low), float(found.high), confidence)
