"""The statistics of a SmolVLA folder of LeRobot's, of its processors or its weights, and the steps beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from nextmove.codecs import Scaled
from nextmove.config import ConfigError
from nextmove.interop.hf.tensors import Checkpoint
from nextmove.interop.lerobot.config import STATE
from nextmove.interop.lerobot.scaling import (
    PROCESSORS,
    Scales,
    check_pictures,
    from_processors,
    from_weights,
    is_statistic,
)
from nextmove.interop.pi import statistics
from nextmove.interop.pi.steps import TOKENIZE, Line, Tokenize
from nextmove.interop.smolvla.config import SmolVlaConfig
from nextmove.models.policy import Policy

BUFFER = "unnormalize_outputs.buffer_"
"""How the statistics of a policy's own actions are called in weights; those of other data sets have other names."""


LINE = "smolvla_new_line_processor"
STEPS: Mapping[str, type] = {LINE: Line, TOKENIZE: Tokenize}
"""Steps of the preprocessor beside those of every policy."""


def taken(folder: Path, config: SmolVlaConfig, checkpoint: Checkpoint) -> Scales | None:
    """The scales of the processor files, else of the weights (releases up to 0.3.3); None for neither.

    Takes all statistics out of the checkpoint. Raises ConfigError for a step that is absent, not known or says
    something else than config.json, and for statistics that are absent.
    """
    held = [name for name in checkpoint.tensors if is_statistic(name)]
    if (folder / PROCESSORS[0]).is_file():
        scales = from_processors(folder, config, STEPS)
        _check(config, scales.steps)
        reason = "statistics; the processor files hold those in force"
    elif any(name.startswith(BUFFER) for name in held):
        if not all(bool(checkpoint.tensors[name].isfinite().all()) for name in held):
            _aside(checkpoint, held, "statistics that were never set")
            return None
        scales, reason = from_weights(checkpoint.tensors, config), "statistics of nothing in config.json"
    else:
        _aside(checkpoint, held, "statistics of other data sets")
        return None
    check_pictures(scales, config)
    _aside(checkpoint, [name for name in held if name not in scales.used], reason)
    for name in scales.used:
        del checkpoint.tensors[name]
    return scales


def _aside(checkpoint: Checkpoint, names: list[str], why: str) -> None:
    for name in names:
        checkpoint.ignore("", why, name)


def _check(config: SmolVlaConfig, steps: Mapping[str, Any]) -> None:
    """Raises ConfigError where the steps say something else than config.json."""
    for name in STEPS:
        if name not in steps:
            raise ConfigError(f"{PROCESSORS[0]}: steps: expected {name!r}, found none")
    if (length := steps[TOKENIZE].max_length) != config.tokenizer_max_length:
        raise ConfigError(
            f"{PROCESSORS[0]}: {TOKENIZE}: max_length: expected {config.tokenizer_max_length}, as config.json says, "
            f"found {length}"
        )


def give(policy: Policy, scales: Scales | None) -> list[str]:
    """Gives the policy its scales; what is to be said of that."""
    if scales is None:
        for part in (policy.encoder, policy.codec):
            _unscaled(cast(Any, part).scale)
        return ["no statistics: states are read, and actions written, as the networks see them"]
    renamed = [f"observations are renamed: {dict(scales.renamed)}"] if scales.renamed else []
    return [*statistics.give(policy, scales.inputs[STATE], scales.action), *renamed]


def _unscaled(scale: Scaled) -> None:
    one: dict[str, Tensor] = {"mean": torch.zeros(scale.width), "std": torch.ones(scale.width)}
    low = {"min": -one["std"], "max": one["std"]}
    scale.set(one | low | {"q01": low["min"], "q99": low["max"], "q10": low["min"], "q90": low["max"]}, eps=0.0)
