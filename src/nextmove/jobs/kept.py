"""Finished trainings and judgements are reused only where data and weights are unchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nextmove import data as sets
from nextmove import store
from nextmove.config import ConfigError
from nextmove.contracts import TASK
from nextmove.data import identity
from nextmove.jobs.fit import finished

TOLD = ("steps", "minutes", "loss", "seed", "budget", "finished", "windows")
"""Facts that tell trainings apart where a judgement of an older version keeps no hash of the weights."""


class Demonstrations:
    """A folder of demonstrations as it is now; trainings on it are recognised by content."""

    def __init__(self, folder: Path | str, leave_out: Sequence[int] = ()) -> None:
        """leave_out: numbers of episodes left out of every training."""
        self.folder = folder
        self.dataset = sets.open_dataset(folder)
        self.rest = np.setdiff1d(self.dataset.episodes, np.array(leave_out, np.int64))
        self._known: dict[tuple[int, tuple[str, ...]], Mapping[str, str]] = {}

    def made(self, facts: Mapping[str, Any], episodes: int = 0) -> bool:
        """Whether a model with these facts can be of the first so many episodes (0: of all) of those not left out.

        By content; for models that keep no hashes by the number of frames.
        """
        count = episodes or len(self.rest)
        if count > len(self.rest):
            return False
        used = self.rest[:count]
        if "content" in facts:
            features = facts["content"]["features"]
            names = tuple(name for name in features if name != "action")
            if not set(features) <= {*self.dataset.features, TASK}:
                return False
            if (count, names) not in self._known:
                self._known[count, names] = identity.identify(self.dataset.select(used), names).features
            return bool(self._known[count, names] == features)
        held = np.array(facts.get("held_episodes", ()), np.int64)
        if "windows" not in facts or "episodes" not in facts:
            return True
        if facts["episodes"] + len(held) != count or not np.isin(held, used).all():
            return False
        return bool(len(self.dataset.select(used)) - len(self.dataset.select(held)) == facts["windows"])

    def refuse(self, run: Path, budget: str, episodes: int = 0) -> None:
        """Raises ConfigError for a finished training of another budget or of other episodes than asked for."""
        if not finished(run):
            return
        facts = store.read_config(run / "model")["facts"]
        if not self.made(facts, episodes):
            raise ConfigError(
                f"{run}: was trained on other demonstrations than {self.folder} holds now; remove {run} to train anew, "
                "or choose another --out"
            )
        if facts.get("budget", budget) != budget:
            raise ConfigError(
                f"{run}: expected a training of {budget}, found one of {facts['budget']}; ask for that, remove {run}, "
                "or choose another --out"
            )

    def outdated(self, judged: Mapping[str, Any], run: Path, episodes: int = 0) -> str:
        """Why a judgement with these facts is not of the run's model and of these demonstrations; nothing if it is."""
        if not finished(run):
            return "its training is gone"
        facts = store.read_config(run / "model")["facts"]
        known = judged.get("weights_hash")
        same = all(judged.get(name) == facts.get(name) for name in TOLD if name in judged)
        if not same if known is None else known != store.weights_hash(run):
            return "its training was done anew"
        return "" if self.made(facts, episodes) else f"trained on other demonstrations than {self.folder} holds now"
