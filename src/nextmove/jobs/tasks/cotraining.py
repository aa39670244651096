"""Questions and answers about images that are trained on beside a robot's data."""

from __future__ import annotations

from typing import Any

from nextmove.config import ConfigError
from nextmove.data.loader import Source
from nextmove.data.mixed import Mixed
from nextmove.data.pairs import Pairs
from nextmove.evaluation.progress import counted_bar
from nextmove.models.policy import Policy
from nextmove.models.policy.cotrained import PAIRS, CotrainedPolicy


def cotrained(policy: Policy, source: Source, folder: str, cache: str = "") -> tuple[Source, dict[str, Any]]:
    """The source with a row of a folder of questions beside each of its own, and what the model's card says of them.

    Without a folder the source itself. Raises ConfigError for a policy that answers nothing and for a `cache` of
    prefixes, which questions would change, and DataError for a folder that is none of questions.
    """
    if not folder:
        return source, {}
    if not isinstance(policy, CotrainedPolicy):
        raise ConfigError(f"--pairs {folder}: expected a policy that answers questions too (rt2), found another")
    if cache:
        raise ConfigError(f"--pairs {folder}: expected no --prefix-cache, for answers change what reads; leave one out")
    side = policy.encoder.config.towers[0].image  # type: ignore[attr-defined]
    pairs, held = Pairs.read(folder, size=(side, side), bar=counted_bar("images decoded")).split()
    for note in pairs.notes:
        print(f"{folder}: {note}")
    print(f"{folder}: {len(pairs)} questions beside the robot's data, {len(held)} kept for tests")
    return Mixed(source, pairs, PAIRS), {"pairs": len(pairs)}
