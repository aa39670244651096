"""Whether a policy and what it is judged on are one robot: inputs, their shapes, names of the joints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nextmove import data, sim
from nextmove.config import ConfigError
from nextmove.contracts import TASK, Feature
from nextmove.contracts.features import listed
from nextmove.data.layout import Feature as Column
from nextmove.data.layout import parse_feature
from nextmove.models.policy import Policy
from nextmove.models.policy.names import compare_names


def inputs_of(columns: Mapping[str, Column]) -> dict[str, Feature]:
    """The features of a data set or simulator that a policy may read, `observation.*` and others, by type."""
    return {name: feature for name, column in columns.items() if (feature := _typed(column)) is not None}


def _typed(column: Column) -> Feature | None:
    if column.is_camera:
        return Feature("image", column.shape)
    if not column.is_number or len(column.shape) not in (1, 2):
        return None
    return Feature("state", column.shape, column.names) if len(column.shape) == 1 else Feature("points", column.shape)


def unsaid(where: sim.Task | data.Dataset) -> dict[str, Any]:
    """What checkpoints of other projects do not say, of a task or a data set: rate, and cameras with their sizes."""
    if isinstance(where, sim.Task):
        return {"fps": where.fps, "cameras": dict(where.cameras)}
    columns = where.layout.features.items()
    return {"fps": where.fps, "cameras": {n: (c.shape[0], c.shape[1]) for n, c in columns if c.is_colour}}


ANY_NUMBER = 512
"""Points shown to a policy that reads any number of them (FlowPolicy's number)."""


def fits_data(policy: Policy, dataset: data.Dataset) -> str:
    """What cannot be compared, as a sentence or nothing; raises ConfigError for a data set of another robot or rate."""
    found = inputs_of(dataset.layout.features) | ({TASK: Feature("text")} if dataset.tasks else {})
    remark = _fits(policy, str(dataset.root), found)
    if abs(dataset.fps / policy.spec.fps - 1) > 1e-3:
        raise ConfigError(f"{dataset.root}: fps: expected {policy.spec.fps:g}, as the policy's, found {dataset.fps:g}")
    return remark


def fits_task(policy: Policy, task: sim.Task) -> str:
    """The same of a simulator's task; a policy of another robot is shown the way to offline judging."""
    entries = task.entries({**task.cameras, **cameras(policy, task)}, points(policy, task))
    columns = {name: parse_feature(name, entry, task.name) for name, entry in entries.items()}
    found = inputs_of(columns) | {TASK: Feature("text")}
    try:
        return _fits(policy, task.name, found)
    except ConfigError as problem:
        raise ConfigError(
            f"{problem}. A policy of another robot than {task.name}'s is judged on its own demonstrations: "
            "nextmove evaluate RUN --data FOLDER"
        ) from None


def cameras(policy: Policy, task: sim.Task) -> dict[str, tuple[int, int]]:
    """Those of the task's cameras that a policy reads, each with the height and width that it is read at."""
    inputs = {name: feature for name, feature in policy.inputs.items() if name in task.cameras}
    return {name: (feature.shape[0], feature.shape[1]) for name, feature in inputs.items() if feature.type == "image"}


def points(policy: Policy, task: sim.Task) -> int:
    """How many points of the task's cloud a policy reads; 512 where it reads any number."""
    feature = policy.inputs.get(sim.POINTS)
    asked = feature is not None and feature.type == "points" and task.cloud is not None
    return (feature.shape[0] or ANY_NUMBER) if feature is not None and asked else 0


def sensors(policy: Policy, task: sim.Task) -> dict[str, Any]:
    """The settings of `sim.make` by which the task shows what a policy reads."""
    return {"cameras": cameras(policy, task), "points": points(policy, task)}


def _fits(policy: Policy, where: str, found: Mapping[str, Feature]) -> str:
    action = Feature("state", (policy.spec.action,), policy.spec.action_names)
    wanted = {**policy.inputs, "action": action}
    if absent := [name for name, feature in wanted.items() if name not in found and not feature.optional]:
        what = "; ".join(f"{name}: expected {_article(wanted[name])}" for name in absent)
        raise ConfigError(f"{where}: {what}, found only {listed(found)}")
    for name, feature in ((name, feature) for name, feature in wanted.items() if name in found):
        other = found[name]
        if other.type != feature.type:
            raise ConfigError(f"{where}: {name}: expected {_article(feature)}, found {_article(other)}")
        if feature.type == "state" and other.width != feature.width:
            raise ConfigError(f"{where}: {name}: expected width {feature.width}, found {other.width}")
        if feature.type == "image" and other.shape != feature.shape:
            raise ConfigError(
                f"{where}: {name}: expected images {list(feature.shape)} (height, width, channels), found "
                f"{list(other.shape)}"
            )
        if feature.type == "points" and (feature.shape[0] not in (0, other.shape[0]) or other.width < feature.width):
            raise ConfigError(f"{where}: {name}: expected points {list(feature.shape)}, found {list(other.shape)}")
    names = {name: feature.names for name, feature in found.items()}
    read = {name: feature for name, feature in policy.inputs.items() if feature.type == "state"}
    remarks = compare_names(replace(policy.spec, inputs=read), names, where)
    return f"Joints could not be compared by name: {'; '.join(remarks)}." if remarks else ""


def _article(feature: Feature) -> str:
    if feature.type == "state":
        return f"a feature of width {feature.width}"
    return {"image": "a camera", "text": "an instruction"}.get(feature.type, f"{feature}")


def read_features(policy: Policy, dataset: data.Dataset) -> list[str]:
    """Names of what it reads of a data set, the instruction included; what is optional and absent is left out.

    And what it estimates, where it is there to be trained on.
    """
    there = {*dataset.layout.features, *([TASK] if dataset.tasks else [])}
    read = [name for name, feature in policy.inputs.items() if name in there or not feature.optional]
    return [*read, *(name for name in policy.trained_on if name in there and name not in read)]


def known_by(policy: Policy) -> list[str]:
    """The columns that episodes are known by to a policy: numbers it reads, or all there are beside its cameras.

    And the instruction where it is read. Images are not among them: the action's numbers tell episodes apart too.
    """
    beside = [name for name, feature in policy.spec.inputs.items() if feature.is_number]
    return [*(number_features(policy) or beside), *([TASK] if TASK in policy.inputs else [])]


def number_features(policy: Policy) -> list[str]:
    """Names of the features it reads that are numbers."""
    return [name for name, feature in policy.inputs.items() if feature.is_number]
