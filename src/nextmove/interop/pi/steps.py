"""Steps of LeRobot's processors that its policies of pictures and words have beside all others' (0.6.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nextmove.config import ConfigError
from nextmove.interop.pi.config import Pi0Config

RELATIVE, ABSOLUTE, TOKENIZE = "relative_actions_processor", "absolute_actions_processor", "tokenizer_processor"
LINE, TELL = "pi0_new_line_processor", "pi05_prepare_state_tokenizer_processor_step"
TOKENIZER = "google/paligemma-3b-pt-224"


@dataclass(frozen=True)
class Relative:
    """Config of the step that makes actions relative to the state."""

    enabled: bool = False
    exclude_joints: tuple[str, ...] = ()
    action_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Absolute:
    """Config of the step that makes them absolute again."""

    enabled: bool = False


@dataclass(frozen=True)
class Tokenize:
    """Config of the step that makes ids of words."""

    max_length: int = 512
    task_key: str = "task"
    padding_side: Literal["right"] = "right"
    padding: str = "max_length"
    truncation: bool = True
    tokenizer_name: str | None = None


@dataclass(frozen=True)
class Line:
    """Config of the step that ends an instruction in a line break: nothing."""


@dataclass(frozen=True)
class Tell:
    """Config of the step that writes the state into the words."""

    max_state_dim: int = 32
    task_key: str = "task"


PRE: Mapping[str, type] = {RELATIVE: Relative, TOKENIZE: Tokenize, LINE: Line, TELL: Tell}
POST: Mapping[str, type] = {ABSOLUTE: Absolute}


def check_steps(config: Pi0Config, steps: Mapping[str, Any]) -> None:
    """Raises ConfigError where the steps say something else than config.json."""
    five = config.type == "pi05"
    for name in (TOKENIZE, TELL if five else LINE):
        if name not in steps:
            raise ConfigError(f"policy_preprocessor.json: steps: expected {name!r}, found {sorted(steps)}")
    if (LINE if five else TELL) in steps:
        raise ConfigError(f"policy_preprocessor.json: steps: expected none of another policy's, found {sorted(steps)}")
    relative, absolute = steps.get(RELATIVE, Relative()), steps.get(ABSOLUTE, Absolute())
    for key, found in (("relative", relative.enabled), ("absolute", absolute.enabled)):
        if found != config.use_relative_actions:
            raise ConfigError(
                f"config.json: use_relative_actions: {config.use_relative_actions}, but the step of {key} actions says "
                f"enabled {found}"
            )
    length = steps[TOKENIZE].max_length
    if length != config.tokenizer_max_length:
        raise ConfigError(
            f"policy_preprocessor.json: {TOKENIZE}: max_length: expected {config.tokenizer_max_length}, as config.json "
            f"says, found {length}"
        )
