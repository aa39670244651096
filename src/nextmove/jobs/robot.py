"""Whether a policy and what it is judged on are one robot: features, widths, names of the joints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nextmove import data, sim
from nextmove.config import ConfigError
from nextmove.data.names import dimension_names
from nextmove.models.policy import Policy
from nextmove.models.policy.names import compare_names


def fits_data(policy: Policy, dataset: data.Dataset) -> str:
    """What cannot be compared, as a sentence or nothing; raises ConfigError for a data set of another robot or rate."""
    found = {n: f for n, f in dataset.layout.features.items() if f.is_number and len(f.shape) == 1}
    widths = {name: feature.shape[0] for name, feature in found.items()}
    told = _fits(policy, str(dataset.root), widths, {name: feature.names for name, feature in found.items()})
    if abs(dataset.fps / policy.spec.fps - 1) > 1e-3:
        raise ConfigError(f"{dataset.root}: fps: expected {policy.spec.fps:g}, as the policy's, found {dataset.fps:g}")
    return told


def fits_simulator(policy: Policy, simulator: str) -> str:
    """The same of a simulator; a policy of another robot is shown the way to offline judging."""
    found = {n: f for n, f in sim.features(simulator).items() if len(f["shape"]) == 1}
    widths = {name: feature["shape"][0] for name, feature in found.items()}
    names = {name: dimension_names(feature["names"], widths[name]) for name, feature in found.items()}
    try:
        return _fits(policy, simulator, widths, names)
    except ConfigError as problem:
        raise ConfigError(
            f"{problem}. A policy of another robot than {simulator}'s is judged on its own demonstrations: "
            "nextmove evaluate RUN --data FOLDER"
        ) from None


def _fits(policy: Policy, where: str, widths: Mapping[str, int], names: Mapping[str, Sequence[str]]) -> str:
    read = {name: feature for name, feature in policy.inputs.items() if feature.type == "state"}
    for name, width in {**{name: one.width for name, one in read.items()}, "action": policy.spec.action}.items():
        if name not in widths:
            raise ConfigError(f"{where}: {name}: expected a feature of width {width}, found only {sorted(widths)}")
        if widths[name] != width:
            raise ConfigError(f"{where}: {name}: expected width {width}, found {widths[name]}")
    remarks = compare_names(replace(policy.spec, inputs=read), names, where)
    return f"Joints could not be compared by name: {'; '.join(remarks)}." if remarks else ""


def number_features(policy: Policy) -> list[str]:
    """Names of the features it reads that are numbers."""
    return [name for name, feature in policy.inputs.items() if feature.is_number]
