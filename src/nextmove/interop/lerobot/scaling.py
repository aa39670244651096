"""The statistics of a LeRobot checkpoint as codecs: from processor files (0.4 and later) or from its weights (before).

Formulas: `codecs.Scaled.set`. A feature type without a mode is left as it is, which is how environment states usually
come; a feature with a mode but without its statistics is an error, never passed through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from torch import Tensor

from nextmove import weights
from nextmove.codecs import Scaled
from nextmove.codecs.scaled import STATISTICS, Mode
from nextmove.config import ConfigError, decode, nearest, read_object
from nextmove.interop.lerobot.config import ACTION, Feature, Norm, Shared

PROCESSORS = ("policy_preprocessor.json", "policy_postprocessor.json")
NORMALISER, UNNORMALISER = "normalizer_processor", "unnormalizer_processor"
RENAME, BATCH, DEVICE = "rename_observations_processor", "to_batch_processor", "device_processor"


@dataclass(frozen=True)
class Scales:
    """How raw features become what the network sees, and its actions raw again."""

    inputs: Mapping[str, Scaled]
    action: Scaled
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Raw name -> name the policy knows."""
    used: tuple[str, ...] = ()
    """Tensors of the weights that hold statistics."""
    steps: Mapping[str, Any] = field(default_factory=dict)
    """Configs of the steps that only some policies have, by name."""


@dataclass(frozen=True)
class _Normaliser:
    """Config of the steps that scale, as saved."""

    eps: float = 1e-8
    features: dict[str, Feature] = field(default_factory=dict)
    norm_map: dict[str, Norm] = field(default_factory=dict)
    normalize_observation_keys: list[str] | None = None


@dataclass(frozen=True)
class _Device:
    device: str = "cpu"
    float_dtype: Literal["float32", "float"] | None = None


@dataclass(frozen=True)
class _Rename:
    rename_map: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Nothing:
    pass


_PRE: dict[str, type] = {RENAME: _Rename, BATCH: _Nothing, DEVICE: _Device, NORMALISER: _Normaliser}
_POST: dict[str, type] = {UNNORMALISER: _Normaliser, DEVICE: _Device}


def from_processors(
    folder: Path, config: Shared, also: Mapping[str, type] | None = None, behind: Mapping[str, type] | None = None
) -> Scales:
    """The scales that policy_preprocessor.json, policy_postprocessor.json and their state files describe.

    also, behind: further steps that a policy's preprocessor and postprocessor may have, and their config. Raises
    ConfigError for a step that is not known, naming it, and for absent statistics.
    """
    known = ({**_PRE, **(also or {})}, {**_POST, **(behind or {})})
    pre, post = (_steps(folder, file, own) for file, own in zip(PROCESSORS, known, strict=True))
    names = [name for name, _, _ in pre]
    for file, steps, needed in ((PROCESSORS[0], pre, NORMALISER), (PROCESSORS[1], post, UNNORMALISER)):
        found = [name for name, _, _ in steps]
        if found.count(needed) != 1:
            raise ConfigError(f"{file}: steps: expected one {needed!r}, found {found}")
    if RENAME in names[names.index(NORMALISER) :]:
        raise ConfigError(f"{PROCESSORS[0]}: steps: expected {RENAME!r} before {NORMALISER!r}, found {names}")
    map_: dict[str, str] = {}
    for name, step, _ in pre:
        if name == RENAME:
            map_ |= cast(_Rename, step).rename_map
    for name in map_.values():
        if len(raw := [old for old, new in map_.items() if new == name]) > 1:
            raise ConfigError(f"{PROCESSORS[0]}: rename_map: expected one name that becomes {name!r}, found {raw}")
    forward, stats = next((cast(_Normaliser, step), state) for name, step, state in pre if name == NORMALISER)
    backward, back = next((cast(_Normaliser, step), state) for name, step, state in post if name == UNNORMALISER)
    modes = [step.norm_map.get("ACTION", "IDENTITY") for step in (forward, backward)]
    if modes[0] != modes[1] or forward.eps != backward.eps:
        found_ = [(mode, step.eps) for mode, step in zip(modes, (forward, backward), strict=True)]
        raise ConfigError(f"{PROCESSORS[1]}: expected the action's mode and eps of {PROCESSORS[0]}, found {found_}")
    inputs = {n: _input(n, feature, forward, stats) for n, feature in config.input_features.items()}
    action = _codec(ACTION, config.output_features[ACTION], modes[0])
    action.set(stats.get(ACTION, {}), back=back.get(ACTION, {}), eps=forward.eps)
    others = {name: step for name, step, _ in (*pre, *post) if name in {**(also or {}), **(behind or {})}}
    return Scales(inputs, action, map_, steps=others)


def check_pictures(scales: Scales, config: Shared) -> None:
    """Raises ConfigError for statistics of a camera, which models that scale pictures themselves have no place for."""
    for name in config.cameras:
        if (mode := scales.inputs[name].mode) != "identity":
            raise ConfigError(
                f"{PROCESSORS[0]}: norm_map: VISUAL: expected IDENTITY for {config.type}, which takes pictures in "
                f"[0, 1], found {mode.upper()} for {name!r}"
            )


def _input(name: str, feature: Feature, step: _Normaliser, stats: Mapping[str, Any]) -> Scaled:
    """The codec of an observed feature; those that the step does not list pass as they are."""
    listed, only = step.features.get(name), step.normalize_observation_keys
    seen = listed is not None and (only is None or name in only)
    codec = _codec(name, feature, step.norm_map.get(listed.type, "IDENTITY") if listed and seen else "IDENTITY")
    codec.set(stats.get(name, {}), eps=step.eps)
    return codec


def _codec(name: str, feature: Feature, norm: str) -> Scaled:
    # Channels, the last dimension once images are seen pixel by pixel.
    return Scaled(feature.shape[0] if feature.shape else 1, mode=cast(Mode, norm.lower()), name=name)


def _steps(folder: Path, file: str, known: Mapping[str, type]) -> list[tuple[str, Any, dict[str, dict[str, Tensor]]]]:
    """Name, checked config and statistics by feature of each step."""
    data = read_object(folder / file)
    steps = data.get("steps")
    if not isinstance(steps, list):
        raise ConfigError(f"{file}: steps: expected a list, found {steps!r}")
    read = []
    for i, step in enumerate(steps):
        where = f"{file}: steps[{i}]"
        if not isinstance(step, Mapping):
            raise ConfigError(f"{where}: expected an object, found {step!r:.60}")
        name = step.get("registry_name", step.get("class"))
        if name not in known:
            raise ConfigError(
                f"{where}: no step is known by the name {name!r}{nearest(str(name), known)}; expected one of "
                f"{', '.join(known)}. What a checkpoint names is never imported"
            )
        config: Any = decode(known[name], step.get("config") or {}, where=f"{where}: {name}")
        state = weights.read(_inside(folder, step["state_file"], where)) if step.get("state_file") else {}
        read.append((name, config, _by_feature(state)))
    return read


def _inside(folder: Path, file: Any, where: str) -> Path:
    if not isinstance(file, str) or Path(file).name != file:
        raise ConfigError(f"{where}: state_file: expected the name of a file beside it, found {file!r}")
    return folder / file


def _by_feature(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    stats: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        # Feature names hold dots, names of statistics do not.
        name, _, statistic = key.rpartition(".")
        stats.setdefault(name, {})[statistic] = value
    return stats


def from_weights(tensors: Mapping[str, Tensor], config: Shared) -> Scales:
    """The scales of a checkpoint whose weights hold `normalize_inputs.buffer_...` and the like.

    A feature's buffer has "_" where the feature's name has "."; the names in config.json say which is meant. Raises
    ConfigError for an absent buffer, and ValueError for one that was never initialised (infinite).
    """
    used: list[str] = []

    def stats(group: str, name: str, mode: str) -> dict[str, Tensor]:
        prefix = f"{group}.buffer_{name.replace('.', '_')}"
        found = {}
        for statistic in STATISTICS[mode] if mode != "identity" else ():
            key = f"{prefix}.{statistic}"
            if key not in tensors:
                raise ConfigError(f"model.safetensors: missing tensor {key!r}, the statistics of {name!r}")
            found[statistic] = tensors[key]
            used.append(key)
        return found

    inputs = {}
    for name, feature in config.input_features.items():
        inputs[name] = codec = _codec(name, feature, config.normalization_mapping.get(feature.type, "IDENTITY"))
        codec.set(stats("normalize_inputs", name, codec.mode), legacy=True)
    action = _codec(ACTION, config.output_features[ACTION], config.normalization_mapping.get("ACTION", "IDENTITY"))
    back = stats("unnormalize_outputs", ACTION, action.mode)
    action.set(stats("normalize_targets", ACTION, action.mode), back=back, legacy=True)
    return Scales(inputs, action, used=tuple(used))


def is_statistic(name: str) -> bool:
    """Whether a tensor of the weights is a normalisation buffer of releases up to 0.3.3."""
    return name.startswith(("normalize_inputs.", "normalize_targets.", "unnormalize_outputs."))
