"""Prefixes of a data set made once for trainings that leave the backbone as it is, and taken in place of pictures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from nextmove import data
from nextmove.config import ConfigError, encode
from nextmove.contracts import TASK, Feature
from nextmove.data import identity
from nextmove.data.frame_source import Sources
from nextmove.data.frame_store import Segment
from nextmove.data.prefix_store import Dtype, Later, Prefixed, PrefixStore
from nextmove.encoders.kept_prefix import made, reads_state_last, trains_alone
from nextmove.encoders.reading import ReadingEncoder
from nextmove.evaluation.progress import counted_bar
from nextmove.jobs.fit import Task, held_batches
from nextmove.models.policy import Policy
from nextmove.training.distributed import World
from nextmove.training.optim import factors
from nextmove.weights import digest

AT_ONCE = 8
"""Frames that are read at once."""
JUDGED = 1024
"""Held-out windows of the validation loss at most."""


def prefixed(
    task: Task, world: World, *, seen: data.Windows, held: data.Windows, folder: str | Path, dtype: Dtype
) -> Task:
    """The task with every window's prefix made and kept in a folder, which is read in place of its pictures.

    Of several processes the first makes them. Call it when the weights are what they will be.
    Raises ConfigError for an encoder that has none or is trained and for a file in place of a folder, DataError for a
    folder of another data set, backbone or preprocessing.
    """
    policy: Policy = task.model
    encoder = frozen_encoder(policy)
    if Path(folder).is_file():
        raise ConfigError(f"--prefix-cache: expected a folder, found the file {folder}")
    known = made_from(policy, seen.dataset, Path(folder))
    if world.first:
        _make(PrefixStore(Path(folder), known, dtype), encoder, [seen, held])
    world.wait()
    store = PrefixStore(Path(folder), known, dtype)
    print(f"prefixes: {store.bytes / 1e9:.2f} GB in {folder}; the encoder is not called in training")
    apart = [_without_pictures(windows) for windows in (seen, held)]
    batches = held_batches(apart[1], policy.card.recipe.optim.batch, JUDGED)  # type: ignore[union-attr]
    judged = [Later(batch, store) for batch in batches]
    return Task(policy, Prefixed(apart[0], store), judged, task.facts | {"prefixes": dtype}, later=task.later)


def frozen_encoder(policy: Policy) -> ReadingEncoder:
    """The encoder of a policy; raises ConfigError where it makes no prefix, or what makes it is trained."""
    encoder: Any = policy.encoder
    if not isinstance(encoder, ReadingEncoder):
        raise ConfigError(
            f"--prefix-cache: expected a policy that reads a prefix by a language model, found one of "
            f"{type(encoder).__name__}; leave it out"
        )
    if policy.planner is not None:
        raise ConfigError(
            "--prefix-cache: expected a policy that says no sub-tasks, which its language model is trained to, found "
            "one with encoder.planner; leave one out"
        )
    optim = policy.card.recipe.optim  # type: ignore[union-attr]
    rates = factors(policy, optim.scales)
    inside = {name.removeprefix("encoder."): rate for name, rate in rates.items() if name.startswith("encoder.")}
    moved = [name for name, rate in inside.items() if rate and not trains_alone(name, encoder.config)]
    if moved and ".adapter." in moved[0]:
        raise ConfigError(
            f'--prefix-cache: expected a frozen encoder, found adapters on it ({moved[0]}); --lora-names "decoder.*" '
            "leaves it as it is, or leave out --prefix-cache"
        )
    if moved:
        state = " encoder.state 1" if reads_state_last(encoder.config) else ""
        raise ConfigError(
            f"--prefix-cache: expected a frozen encoder, found encoder.{moved[0]} trained; add --recipe.optim.scales "
            f"encoder 0{state}, or leave it out"
        )
    return encoder


def made_from(policy: Policy, dataset: data.Dataset, folder: Path) -> dict[str, str]:
    """Hashes of all that decides a data set's prefixes: what it shows, the weights that read it, and how."""
    encoder = frozen_encoder(policy)
    config = encoder.config
    there = {*dataset.layout.features, TASK}
    cameras = [name for name in encoder.cameras if name in there]
    stated = config.state != "none" and not reads_state_last(config) and config.state != "vector"
    numbers = [n for n, f in encoder.inputs.items() if f.type == "text" or (f.type == "state" and stated)]
    shown = dataset.select(np.arange(dataset.num_episodes))
    whole = Segment(0, 0, shown.num_episodes, 0, int(shown.episode_to[-1]))
    sources = Sources(shown, folder)
    seen = [sources.of(name, whole) for name in cameras]
    sources.keep()
    read = identity.identify(shown, numbers).features
    weights = {n: digest(p) for n, p in encoder.named_parameters() if not trains_alone(n, config)}
    inside = encoder.scale.state_dict() if stated and encoder.scale is not None else {}
    scales = {name: digest(value) for name, value in inside.items()}
    # One that plans has no cache.
    reads = {name: value for name, value in encode(config).items() if name != "planner"}
    preprocessing = [reads, {n: _shape(encoder.inputs[n]) for n in cameras}, scales]
    return {
        "data": _hash([seen, {name: read[name] for name in sorted(numbers)}]),
        "backbone": _hash(weights),
        "preprocessing": _hash(preprocessing),
    }


def _make(store: PrefixStore, encoder: ReadingEncoder, parts: list[data.Windows]) -> None:
    """Makes those that are missing, with a bar."""
    training = encoder.training
    encoder.eval()
    try:
        for windows in parts:
            spans = zip(windows.start.tolist(), windows.stop.tolist(), strict=True)
            rows = np.array([row for start, stop in spans for row in range(start, stop)], np.int64)
            missing, place = store.missing(rows), {row: at for at, row in enumerate(rows.tolist())}

            def make(some: Any, windows: Any = windows, place: Any = place) -> Any:
                return made(encoder, windows.batch([place[row] for row in some.tolist()]), len(some))

            with counted_bar("prefixes made")(len(missing)) as move:
                before = 0
                for done in store.add(missing, make, AT_ONCE):
                    move(done - before)
                    before = done
    finally:
        encoder.train(training)


def _without_pictures(windows: data.Windows) -> data.Windows:
    """The same windows, of which no picture is read."""
    names = [name for name in windows.observations if name not in windows.cameras]
    return data.Windows(
        windows.dataset,
        observations=[*names, *(["task"] if windows.has_tasks else [])],
        obs_offsets=windows.obs_offsets.tolist(),
        action_offsets=windows.action_offsets.tolist(),
        action=windows.action,
    )


def _shape(feature: Feature) -> list[Any]:
    return [feature.type, *feature.shape]


def _hash(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=12).hexdigest()
