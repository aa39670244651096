"""The training task of a policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from nextmove import data, store
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError
from nextmove.contracts import TASK, Feature
from nextmove.data.ahead import opened, read_all
from nextmove.data.cameras import Camera
from nextmove.data.order import check_rate
from nextmove.data.prefix_store import Dtype
from nextmove.data.record import recorded_with
from nextmove.data.stats import check_finite
from nextmove.data.suspects import suspects
from nextmove.data.unfitting import Unfitting
from nextmove.encoders.reading import Reading
from nextmove.jobs import provenance
from nextmove.jobs.fit import Task, held_batches
from nextmove.jobs.frames import filmed
from nextmove.jobs.left_out import remaining
from nextmove.jobs.prefixes import prefixed
from nextmove.jobs.readers import READER, begin_reader, read_reader, reading
from nextmove.jobs.robot import inputs_of, known_by, number_features, read_features
from nextmove.jobs.scales import Columns
from nextmove.jobs.sentences import begin_sentences
from nextmove.jobs.simulators import DEMONSTRATED
from nextmove.jobs.spaces import settle
from nextmove.jobs.tasks.asked import Asked
from nextmove.jobs.tasks.cotraining import cotrained
from nextmove.jobs.tasks.looking import chosen_by, described, recipe_for
from nextmove.jobs.tuned import WHOLE, begin_whole, recipe_of
from nextmove.jobs.worded import begin_words, read_words, worded
from nextmove.models.policy import Policy, PolicySpec
from nextmove.models.vision_language.reader import Reader

FINDINGS = 12
"""Lines about the data at the start of a training."""


@dataclass(frozen=True)
class Options:
    """Which episodes are trained on; the source is a folder of a LeRobot-format data set, v3.0 or v2.1."""

    episodes: int = 0
    """Use only the first so many episodes; 0 means all."""
    leave_out: tuple[int, ...] = ()
    """Numbers of episodes that are neither trained on nor validated with, so that they can be judged on."""
    leave_out_broken: bool = False
    """Leave out episodes whose images are missing or damaged, and say which; otherwise they are an error."""
    unfitting: float = 0.0
    """Share of training rows that are told another task's instruction and learn to stay where they are: without any,
    a policy whose scenes tell the tasks apart need not listen."""
    frame_store_gb: float = 20.0
    """Disk that decoded frames of the cameras may take, GB: they are decoded once, at the size that is trained on, and
    read by this run and later ones from the folder .frames of the data set; 0 decodes whenever a frame is asked for."""
    keep_scales: bool = False
    """Beside --from FOLDER: keep the statistics by which that policy scales states and actions, for more data of the
    same robot; otherwise they are those of the data."""
    unnorm_key: str | None = None
    """Beside --keep-scales: of an OpenVLA that knows the units of several data sets, that whose are kept."""
    prefix_cache: str = ""
    """Folder in which keys and values of every frame's prefix are kept, for trainings that leave the vision-language
    model as it is: they are made once, and no step calls it. Empty: every step does."""
    prefix_dtype: Dtype = "float32"
    """How they are kept: float32, with which gradients are the same, or bfloat16, on half of the disk."""
    tokenizer: str = ""
    """File or folder of the tokenizer by which the language model reads words (pi0, pi05, pi0-fast, smolvla):
    tokenizer.json, SentencePiece's .model, vocab.txt, .gguf. Empty: bytes, of which LeRobot's layouts know nothing."""
    pairs: str = ""
    """Folder of images with questions and answers (captions.jsonl) that are trained on beside the robot's data, so that
    the vision-language model keeps what it knows (rt2)."""


def task(asked: Asked, options: Options) -> Task:
    """A policy and the windows of the demonstrations.

    Raises DataError for a data set that cannot be read or trained on, ValueError for episodes that it has not.
    """
    if not options.frame_store_gb >= 0:
        raise ConfigError(f"frame_store_gb: expected 0 or more, found {options.frame_store_gb:g}")
    dataset = opened(Path(asked.source))
    policy, words, begun = _built(asked, options, dataset)
    read_all(dataset, [*number_features(policy), "action"])
    check_rate(dataset)
    frames, left_out = filmed(
        dataset, policy, options.episodes, options.leave_out, options.leave_out_broken, options.frame_store_gb
    )
    chosen, held = split_episodes(dataset, options.episodes, asked.holdout, asked.seed, left_out)
    print(kept_back(held, len(chosen), asked.holdout))
    look(dataset.select(np.concatenate([chosen, held])), [*number_features(policy), "action"])
    seen = windows(dataset, policy, chosen, frames.cameras)
    policy.fit(Columns(seen))
    source, beside = cotrained(policy, _told(policy, seen, options, asked.seed), options.pairs, options.prefix_cache)
    apart = windows(dataset, policy, held, frames.cameras)
    kept = options.prefix_cache
    judged = held_batches(apart, policy.card.recipe.optim.batch, 1024) if len(held) and not kept else []
    facts: dict[str, Any] = {"data": asked.source, "episodes": len(chosen), "windows": len(seen)}
    facts["held_episodes"] = held.tolist()
    facts |= {} if words is None else {"tokenizer": begin_words(policy, words, options.tokenizer)}
    if whole := asked.start.get(WHOLE):
        begun = {**begun, WHOLE: _begin(policy, whole, options)}
    if simulator := recorded_with(dataset.root):
        facts[DEMONSTRATED] = simulator
    facts |= beside | ({"start": begun} if begun else {})
    facts |= {"unfitting": options.unfitting} if options.unfitting else {}

    @cache
    def later() -> dict[str, Any]:
        return {"content": provenance.content(dataset, known_by(policy), chosen, held)}

    into = partial(prefixed, seen=seen, held=apart, folder=kept, dtype=options.prefix_dtype)
    return Task(policy, source, judged, facts, later=later, prepare=into if kept else None)


def _built(
    asked: Asked, options: Options, dataset: data.Dataset
) -> tuple[Any, Tokenizer | None, dict[str, str | None]]:
    """The untrained policy for a robot's data, the tokenizer that is asked for, and hashes of what it begins with.

    What it looks at, leaves out, and in which space it acts is printed.
    """
    spec = spec_of(dataset)
    reader = read_reader(asked.start[READER]) if READER in asked.start else None
    found, words = _worded(_asked_for(asked, spec, reader, options), asked, options)
    with _cameras_named(found):
        recipe, chosen_space = settle(found, spec, dataset)
        policy = store.create(asked.system, spec, recipe)
    begun: dict[str, str | None] = {**begin_sentences(policy)}
    if reader is not None:
        begun[READER] = begin_reader(policy, reader, asked.start[READER])
    if looks := described(policy):
        print(looks)
    print(chosen_space)
    if left := unused(dataset, policy):
        print(f"not used: {', '.join(left)} ({chosen_by(policy)})")
    return policy, words, begun


@contextmanager
def _cameras_named(recipe: Any) -> Iterator[None]:
    """Where a model that reads cameras in an order finds not those it names, its error says how others are named."""
    try:
        yield
    except ValueError as problem:
        if isinstance(getattr(recipe, "encoder", None), Reading) and str(problem).startswith("camera: expected '"):
            raise ConfigError(
                f"{problem}; --recipe.encoder.cameras lists the data's, in the order in which the policy reads them"
            ) from None
        raise


def _asked_for(asked: Asked, spec: PolicySpec, reader: Reader | None, options: Options) -> Any:
    """The recipe: that which is asked for, that of the whole policy begun with, or the system's; around a reader.

    Raises ConfigError for an option that only counts beside a whole policy where there is none.
    """
    whole = asked.start.get(WHOLE)
    if not whole and (alone := [o for o in ("keep_scales", "unnorm_key") if getattr(options, o)]):
        raise ConfigError(f"{alone[0]}: counts beside --from FOLDER, a whole policy, and there is none; leave it out")
    known = recipe_of(whole, asked.system, options.keep_scales, options.unnorm_key) if whole else None
    found = asked.recipe or known or recipe_for(asked.system, spec.inputs)
    return found if reader is None else reading(found, reader, asked.start[READER])


def _begin(policy: Policy, whole: Path, options: Options) -> str | None:
    return begin_whole(policy, whole, keep_scales=options.keep_scales, unnorm_key=options.unnorm_key)


def _worded(recipe: Any, asked: Asked, options: Options) -> tuple[Any, Tokenizer | None]:
    """The recipe with the tokenizer that is asked for; raises ConfigError beside a model that brings its own."""
    if not options.tokenizer:
        return recipe, None
    for slot in (WHOLE, READER):
        if slot in asked.start:
            raise ConfigError(f"--tokenizer: {asked.start[slot]} of --from brings its own; leave it out")
    words = read_words(recipe, options.tokenizer)
    return worded(recipe, words, options.tokenizer), words


def _told(policy: Policy, seen: data.Windows, options: Options, seed: int) -> Any:
    """The windows, some of them told what does not fit if asked for.

    Raises DataError for a policy that writes sub-tasks and data without them.
    """
    dataset = seen.dataset
    if absent := [n for n, f in policy.trained_on.items() if f.type == "text" and n not in (TASK, *dataset.features)]:
        raise data.DataError(
            f"{dataset.root}: {absent[0]}: expected a column of strings with the sub-task of every step, found "
            f"{sorted(dataset.features)}; `nextmove label {dataset.root}` writes it for demonstrations of Meta-World"
        )
    return _unfitting(policy, seen, options, seed) if options.unfitting else seen


def _unfitting(policy: Policy, seen: data.Windows, options: Options, seed: int) -> Unfitting:
    """The windows with some that are told what does not fit; at rest a joint is where the state says it is."""
    if options.prefix_cache:
        raise data.DataError("unfitting: what is kept of each frame has its own instruction; leave out prefix-cache")
    if TASK not in policy.inputs:
        found = ", ".join(policy.inputs)
        raise data.DataError(f"unfitting: expected a policy that reads an instruction, found {found}")
    places = {
        joint: (name, dim)
        for name, joints in policy.spec.names.items()
        if name in seen.observations
        for dim, joint in enumerate(joints)
    }
    return Unfitting(seen, options.unfitting, seed, [places.get(joint, ("", 0)) for joint in policy.spec.action_names])


def spec_of(dataset: data.Dataset) -> PolicySpec:
    """The robot of a data set: its states, cameras, point clouds and instruction, its action and rate.

    Raises ValueError for a data set without an `action` of one axis or without an observed feature.
    """
    observed = {n: column for n, column in dataset.layout.features.items() if n.startswith("observation.")}
    inputs = inputs_of(observed)
    action = dataset.layout.features.get("action")
    if action is None:
        raise ValueError(f"{dataset.root}: expected a feature 'action', found {sorted(dataset.features)}")
    if not action.is_number or len(action.shape) != 1:
        found = f"{action.dtype} of shape {list(action.shape)}"
        raise ValueError(f"{dataset.root}: action: expected numbers of one axis, as shape [7], found {found}")
    if not inputs:
        raise ValueError(f"{dataset.root}: expected a feature 'observation.*', found {sorted(dataset.features)}")
    if dataset.tasks:
        inputs[TASK] = Feature("text")
    return PolicySpec(inputs, action.shape[0], float(dataset.fps), action.names)


def unused(dataset: data.Dataset, policy: Policy) -> list[str]:
    """Observed features of a data set that the policy does not read."""
    observed = [name for name in dataset.layout.features if name.startswith("observation.")]
    return [name for name in observed if name not in policy.trained_on]


def windows(
    dataset: data.Dataset, policy: Policy, episodes: np.ndarray | None, frames: Mapping[str, Camera] | None = None
) -> data.Windows:
    """The windows a policy is trained or judged on; `frames`: where cameras are read, the data set if absent."""
    return data.Windows(
        dataset,
        observations=read_features(policy, dataset),
        obs_offsets=policy.timing.obs_offsets,
        action_offsets=policy.timing.action_offsets,
        episodes=episodes,
        frames=frames,
    )


def look(dataset: data.Dataset, names: Sequence[str]) -> None:
    """Says what the doctor finds in the features that are used; raises DataError where training would mean nothing."""
    check_finite(dataset, names)
    found = sorted(suspects(dataset, names), key=lambda finding: finding.level)
    for finding in found[:FINDINGS]:
        print(finding)
    if len(found) > FINDINGS:
        print(f"and {len(found) - FINDINGS} more; `nextmove inspect {dataset.root}` lists all")
    broken = next((finding for finding in found if finding.level == "error"), None)
    if broken:
        raise data.DataError(
            f"{dataset.root}: {broken}; mend the episode or leave it out (--leave-out {broken.episode})"
        )


def split_episodes(
    dataset: data.Dataset, episodes: int, holdout: float, seed: int, leave_out: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Episode numbers for training and for the validation loss, out of the first `episodes` (0: all) not left out.

    Of two or more episodes at least one is kept for the validation loss, unless `holdout` is 0.
    """
    rest = remaining(dataset, leave_out, "training")
    if episodes < 0 or episodes > len(rest):
        raise ValueError(f"episodes: expected 0 to {len(rest)}, found {episodes}")
    count = episodes or len(rest)
    order = np.random.default_rng([seed, 1]).permutation(count)
    held = max(round(count * holdout), int(holdout > 0 and count > 1))
    if held >= count:
        raise ValueError(f"holdout: expected to leave an episode for training, found {holdout} of {count}")
    kept = count - held
    return rest[np.sort(order[:kept])], rest[np.sort(order[kept:])]


def kept_back(held: np.ndarray, left: int, holdout: float) -> str:
    """A sentence on the episodes that are held out."""
    if len(held):
        some = ", ".join(map(str, held[:8])) + ", ..." * (len(held) > 8)
        return f"validation loss: {len(held)} of {len(held) + left} episodes are kept for it ({some})"
    why = "holdout is 0" if not holdout else "one episode cannot be divided; train on two or more to have one"
    return f"validation loss: none, {why}"
