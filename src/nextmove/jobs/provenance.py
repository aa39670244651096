"""What a policy was trained on, known by content, and what of a data set or of a simulator's seeds it has not seen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nextmove import data as sets
from nextmove import evaluation, sim, store
from nextmove.data import identity, outline
from nextmove.data.tables import Array
from nextmove.evaluation.entry import read_train_log
from nextmove.evaluation.keys import Key, episodes, ranges
from nextmove.folders import PLACES
from nextmove.jobs.robot import known_by
from nextmove.models.policy import Policy


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
        "outlines": outline.outlines(dataset.select(trained), observations),
    }


def facts(policy: Any) -> dict[str, Any]:
    """Facts of a saved model for people and reports: of its data's content one hash, `data_hash`."""
    known = dict(policy.facts)
    found = known.pop("content", None)
    return {**known, "data_hash": identity.whole(found["features"])} if found else known


_BLIND = {"image": ("cameras", "their images"), "points": ("points", "them")}


def training_record(policy: Policy, run: str | Path | None) -> dict[str, Any]:
    """Facts and training curve of a policy, as far as its files have them."""
    log = None if run is None else Path(run) / "train.jsonl"
    known = {**facts(policy), "parameters": sum(p.numel() for p in policy.parameters())}
    if policy.ensemble is not None:
        known["control"] = f"temporal ensembling, coefficient {policy.ensemble:g}"
    if policy.blind:
        seen = {feature.type for feature in policy.inputs.values()}
        known |= {what: f"noise in place of {them}" for kind, (what, them) in _BLIND.items() if kind in seen}
    if run is not None:
        known["weights_hash"] = store.weights_hash(run)
    return {"facts": known, "curve": read_train_log(log) if log is not None and log.is_file() else None}


def written(model: str | Path) -> dict[str, Any]:
    """Hashes of a model's files: a sampler or timing changed in its config is another model, as other weights are."""
    files = [Path(model) / place / "config.json" for place in PLACES]
    config = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()]
    return {"config": config, "weights": store.weights_hash(model)}


def picture_content(trained: sets.Images, held: sets.Images) -> dict[str, Any]:
    """What a saved generator keeps of its images: their hashes (of frames those of their episodes)."""
    assert trained.ids is not None
    assert held.ids is not None
    whole = {"image": f"{identity.hashed(trained.ids):016x}"}
    ids = {"trained": trained.ids, "held": held.ids}
    return {"features": whole, **{name: identity.to_hex(np.unique(found)) for name, found in ids.items()}}


def text_content(trained: str, held: str) -> dict[str, Any]:
    """What a saved language model keeps of its text: hashes of both parts, and of passages that it was trained on."""
    found = identity.passages(trained)
    some = found[np.linspace(0, len(found) - 1, min(len(found), PASSAGES)).astype(np.int64)]
    texts = {"trained": trained, "held": held}
    hashes = {name: f"{identity.hashed(text):016x}" for name, text in texts.items()}
    return {"features": {"text": hashes["trained"]}, **hashes, "traces": identity.to_hex(np.unique(some))}


@dataclass(frozen=True)
class Choice:
    """Episodes of a data set to judge a policy on, and how they relate to what it was trained on.

    episodes: (J,) their numbers; counts: of all episodes by relation: kept (held out of training), new, seen (trained
    on), alike (with frames or the outline of those), unknown; judged: relations of the chosen ones; hash: of the whole
    data set.
    """

    episodes: Array
    counts: Mapping[str, int]
    judged: tuple[str, ...]
    hash: str = ""
    reason: str = ""
    unit: str = "episode"
    who: str = "the policy"

    @property
    def sentence(self) -> str:
        """Which episodes these are, and what was left out."""
        judged = " and ".join(f"the {self._described(name)}" for name in self.judged)
        rest = [name for name in ("seen", "alike") if self.counts[name] and name not in self.judged]
        left = " and ".join(self._described(name) for name in rest)
        return f"{judged}{f'; left out: {left}' if left else ''}"

    @property
    def caution(self) -> str:
        """A caution about the error; empty where no judged episode can have been trained on."""
        these = f"these {self.unit}s"
        if "unknown" in self.judged:
            return f"It may have been trained on {these}: {self.reason}."
        if "alike" in self.judged:
            why = "parts of them are parts of what it was trained on, or changed copies"
            return f"It may have been trained on {these}: {why}."
        if "seen" in self.judged:
            return f"It was trained on {these}: the figures say nothing about new ones."
        if self.counts["alike"]:
            many = _count(self.counts["alike"], self.unit)
            return f"Left out: {many} that may have been trained on, parts or changed copies of training episodes."
        return ""

    def _described(self, relation: str) -> str:
        return f"{_count(self.counts[relation], self.unit)} {_RELATIONS[relation].format(self.who)}"

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
    known, names = policy.facts.get("content"), known_by(policy)
    found = identity.identify(dataset, names)
    if known is None:
        return _by_number(policy, dataset, identity.whole(found.features))
    seen = np.isin(found.episodes, identity.from_hex(known["trained"]))
    kept = np.isin(found.episodes, identity.from_hex(known["held"])) & ~seen
    alike = identity.sharing(dataset, identity.from_hex(known["traces"]), names)
    if "outlines" in known:
        alike |= outline.resembling(dataset, known["outlines"], names)
    alike &= ~seen & ~kept
    masks = {"kept": kept, "new": ~(seen | kept | alike), "seen": seen, "alike": alike}
    return _chosen(dataset.episodes, masks, hash=identity.whole(found.features))


def _chosen(numbers: Array, masks: Mapping[str, Array], **more: str) -> Choice:
    """What was not trained on; if there is none, what may have been; if there is none, everything."""
    counts = {name: int(mask.sum()) for name, mask in masks.items()} | {"unknown": 0}
    for judged in (("kept", "new"), ("alike",), ("seen",)):
        chosen = np.logical_or.reduce([masks[name] for name in judged])
        if chosen.any():
            break
    return Choice(numbers[chosen], counts, tuple(name for name in judged if counts[name]), **more)


NO_HASHES = "the model keeps no hashes of its data"


def choose_images(model: Any, found: sets.ImageSet) -> tuple[sets.Images, Choice]:
    """Those test images of a source that a model was not trained on; all of them if nothing else is left."""
    assert found.test.ids is not None
    choice = choose_among(model, found.test.ids, found.unit)
    return found.test.take(np.flatnonzero(np.isin(found.test.ids, choice.episodes))), choice


def choose_among(model: Any, ids: Array, unit: str) -> Choice:
    """Those of these hashes that a model was not trained on; all of them if nothing else is left."""
    ids, known = np.unique(ids), model.facts.get("content")
    if known is None:
        counts = {**dict.fromkeys(("kept", "new", "seen", "alike"), 0), "unknown": len(ids)}
        return Choice(ids, counts, ("unknown",), reason=NO_HASHES, unit=unit, who="the model")
    seen = np.isin(ids, identity.from_hex(known["trained"]))
    kept = np.isin(ids, identity.from_hex(known["held"])) & ~seen
    masks = {"kept": kept, "new": ~(seen | kept), "seen": seen, "alike": np.zeros(len(ids), bool)}
    return _chosen(ids, masks, unit=unit, who="the model")


def judge_text(model: Any, test: str) -> Choice:
    """How a test text relates to what a model was trained on."""
    known, name = model.facts.get("content"), "unknown"
    if known is not None:
        shared = np.isin(identity.passages(test), identity.from_hex(known["traces"]))
        name = "alike" if shared.any() else "new" if len(shared) else "unknown"
        if f"{identity.hashed(test):016x}" == known["held"]:
            name = "kept"
    counts = {**dict.fromkeys(("kept", "new", "seen", "alike", "unknown"), 0), name: 1}
    reason = NO_HASHES if known is None else "it is too short to tell"
    return Choice(np.zeros(1, np.int64), counts, (name,), reason=reason, unit="text", who="the model")


def _by_number(policy: Any, dataset: sets.Dataset, whole: str) -> Choice:
    """For models that keep no hashes: the held-out episodes by number where path and number of frames agree."""
    facts = policy.facts
    kept = np.array([e for e in facts.get("held_episodes", ()) if e < dataset.num_episodes], np.int64)
    counts = dict.fromkeys(("kept", "new", "seen", "alike"), 0)
    reason = NO_HASHES
    if len(kept) and "data" in facts and Path(facts["data"]).resolve() == dataset.root.resolve():
        count = facts.get("episodes", 0) + len(kept)
        frames = int(dataset.episode_to[count - 1]) if count <= dataset.num_episodes else -1
        if frames - len(dataset.select(kept)) == facts.get("windows"):
            reason = f"by path and number they were kept from training, but {reason}"
            return Choice(kept, {**counts, "unknown": len(kept)}, ("unknown",), whole, reason)
    return Choice(dataset.episodes, {**counts, "unknown": len(dataset.episodes)}, ("unknown",), whole, reason)


_RELATIONS = {
    "kept": "kept from training",
    "new": "that {} was not trained on",
    "seen": "that {} was trained on",
    "alike": "that {} may have been trained on",
    "unknown": "that {} may have been trained on",
}


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


PASSAGES = 4096
"""Passages of a text that a language model remembers it was trained on."""
SHOWN = "demonstrated_seeds"
"""Name of the fact that lists them."""


def demonstrated(policy: Any, simulator: str, seeds: Sequence[int]) -> dict[str, list[int]] | None:
    """By task, those of the seeds that begin as an episode trained on does; None where that is not known.

    It is not where two seeds begin with the same numbers: what differs is seen by a camera, or not at all.
    """
    known = policy.facts.get("content")
    if known is None:
        return None
    starts, found = set(identity.from_hex(known["starts"]).tolist()), {}
    for task in sim.find(simulator):
        names = tuple(name for name in known_by(policy) if name in task.features)
        if not names:
            return None
        with closing(sim.make(task)) as env:
            begins = {seed: identity.start(env.reset(seed=seed)[0], names) for seed in (*seeds, max(seeds) + 1)}
        if len(set(begins.values())) < len(begins):
            return None
        found[task.name] = [seed for seed in seeds if begins[seed] in starts]
    return {task: shown for task, shown in found.items() if shown}


def shown_seeds(facts: Mapping[str, Any]) -> list[Key]:
    """The episodes that these facts list as demonstrated; those of older versions are seeds of one task."""
    found = facts.get(SHOWN) or {}
    by_task = found if isinstance(found, Mapping) else {"": found}
    return [(task, seed) for task, seeds in by_task.items() for seed in seeds]


def seeds_caution(entries: Sequence[evaluation.Entry]) -> str:
    """Which policies were shown which of the episodes they are judged on, as text; nothing where none was."""
    sentences = []
    for entry in entries:
        shown, several = shown_seeds(entry.facts), len({result.task for result in entry.results}) > 1
        if shown:
            these = episodes(shown) if several else ranges([seed for _, seed in shown])
            sentences.append(
                f"{len(shown)} of the {len(entry.results)} seeds were demonstrated to {entry.name}: {these}."
            )
    return " ".join(sentences)
