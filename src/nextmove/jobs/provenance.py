"""What a policy was trained on, known by content, and what of a data set or of a simulator's seeds it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nextmove import data as sets
from nextmove import evaluation, sim
from nextmove.data import identity
from nextmove.data.tables import Array
from nextmove.evaluation.rollout import ranges


def content(dataset: sets.Dataset, observations: Sequence[str], trained: Array, held: Array) -> dict[str, Any]:
    """What a saved policy keeps of its data: hashes of the episodes it was trained on and of those held out."""
    both = np.sort(np.concatenate([trained, held]))
    found = identity.identify(dataset.select(both), observations)
    own = np.isin(both, trained)
    return {
        "features": dict(found.features),
        "trained": identity.to_hex(found.episodes[own]),
        "held": identity.to_hex(found.episodes[~own]),
        "starts": identity.to_hex(found.starts[own]),
        "traces": identity.to_hex(identity.traces(dataset.select(trained), observations)),
    }


def facts(policy: Any) -> dict[str, Any]:
    """Facts of a saved model for people and reports: of its data's content one hash, `data_hash`."""
    known = dict(getattr(policy, "facts", {}))
    found = known.pop("content", None)
    return {**known, "data_hash": identity.whole(found["features"])} if found else known


@dataclass(frozen=True)
class Choice:
    """Episodes of a data set to judge a policy on, and how they relate to what it was trained on.

    episodes: (J,) their numbers; counts: of all episodes by relation: kept (held out of training), new, seen (trained
    on), alike (sharing frames with those), unknown; judged: relations of the chosen ones; hash: of the whole data set.
    """

    episodes: Array
    counts: Mapping[str, int]
    judged: tuple[str, ...]
    hash: str = ""
    reason: str = ""

    @property
    def sentence(self) -> str:
        """Which episodes these are, and what was left out."""
        told = " and ".join(f"the {_told(self.counts[name], name)}" for name in self.judged)
        rest = [name for name in ("seen", "alike") if self.counts[name] and name not in self.judged]
        left = " and ".join(_told(self.counts[name], name) for name in rest)
        return f"{told}{f'; left out: {left}' if left else ''}"

    @property
    def caution(self) -> str:
        """What has to be known before the error is believed; nothing where no judged episode can have been seen."""
        if "unknown" in self.judged:
            return f"It may have been trained on these episodes: {self.reason}."
        if "alike" in self.judged:
            return "It may have been trained on these episodes: they share frames with those it was trained on."
        if "seen" in self.judged:
            return "It was trained on these episodes: the error says nothing about new ones."
        if self.counts["alike"]:
            return (
                f"{_count(self.counts['alike'])} that may have been trained on, for they share frames with training "
                f"episodes, {'is' if self.counts['alike'] == 1 else 'are'} left out."
            )
        return ""

    def record(self) -> dict[str, Any]:
        """All of it as plain values, for a report."""
        counts = {name: count for name, count in self.counts.items() if count}
        return {
            "hash": self.hash,
            "episodes": counts,
            "judged": list(self.judged),
            "numbers": self.episodes.tolist(),
        }


def choose(policy: Any, dataset: sets.Dataset) -> Choice:
    """The episodes of a data set that the policy was not trained on; all of them where nothing else is left."""
    known, names = getattr(policy, "facts", {}).get("content"), policy.encoder.features
    found = identity.identify(dataset, names)
    if known is None:
        return _by_number(policy, dataset, identity.whole(found.features))
    seen = np.isin(found.episodes, identity.from_hex(known["trained"]))
    kept = np.isin(found.episodes, identity.from_hex(known["held"])) & ~seen
    alike = identity.sharing(dataset, identity.from_hex(known["traces"]), names) & ~seen & ~kept
    masks = {"kept": kept, "new": ~(seen | kept | alike), "seen": seen, "alike": alike}
    counts = {name: int(mask.sum()) for name, mask in masks.items()} | {"unknown": 0}
    for judged in (("kept", "new"), ("alike",), ("seen",)):
        chosen = np.logical_or.reduce([masks[name] for name in judged])
        if chosen.any():
            break
    relations = tuple(name for name in judged if counts[name])
    return Choice(dataset.episodes[chosen], counts, relations, identity.whole(found.features))


def _by_number(policy: Any, dataset: sets.Dataset, whole: str) -> Choice:
    """For models that keep no hashes: the held-out episodes by number where path and number of frames agree."""
    told = getattr(policy, "facts", {})
    kept = np.array([e for e in told.get("held_episodes", ()) if e < dataset.num_episodes], np.int64)
    counts = dict.fromkeys(("kept", "new", "seen", "alike"), 0)
    reason = "the model keeps no hashes of its data"
    if len(kept) and "data" in told and Path(told["data"]).resolve() == dataset.root.resolve():
        count = told.get("episodes", 0) + len(kept)
        frames = int(dataset.episode_to[count - 1]) if count <= dataset.num_episodes else -1
        if frames - len(dataset.select(kept)) == told.get("windows"):
            reason = f"by path and number they were kept from training, but {reason}"
            return Choice(kept, {**counts, "unknown": len(kept)}, ("unknown",), whole, reason)
    return Choice(dataset.episodes, {**counts, "unknown": len(dataset.episodes)}, ("unknown",), whole, reason)


_RELATIONS = {
    "kept": "kept from training",
    "new": "that the policy was not trained on",
    "seen": "that the policy was trained on",
    "alike": "that the policy may have been trained on",
    "unknown": "that the policy may have been trained on",
}


def _count(number: int, what: str = "episode") -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _told(number: int, relation: str) -> str:
    return f"{_count(number)} {_RELATIONS[relation]}"


SHOWN = "demonstrated_seeds"
"""Name of the fact that lists them."""


def demonstrated(policy: Any, simulator: str, seeds: Sequence[int]) -> list[int] | None:
    """Those of the simulator's seeds that begin as an episode trained on does; None where that is not known."""
    known = getattr(policy, "facts", {}).get("content")
    if known is None:
        return None
    starts, env = set(identity.from_hex(known["starts"]).tolist()), sim.make(simulator)
    return [s for s in seeds if identity.start(env.reset(seed=s)[0], tuple(policy.encoder.features)) in starts]


def seeds_caution(entries: Sequence[evaluation.Entry]) -> str:
    """Which policies were shown which of the seeds they are judged on, in words; nothing where none was."""
    told = [
        f"{len(shown)} of the {len(entry.results)} seeds were demonstrated to {entry.name}: {ranges(shown)}."
        for entry in entries
        if (shown := entry.facts.get(SHOWN))
    ]
    return " ".join(told)
