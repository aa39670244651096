"""config.json of LeRobot's pi0-FAST, checked key by key, and the steps of its processors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nextmove.config import ConfigError, decode
from nextmove.interop.pi.config import PiShared
from nextmove.interop.pi.steps import RELATIVE, TOKENIZE, Relative, Tell, Tokenize

KIND = "pi0_fast"
TELL, WRITE = "pi0_fast_prepare_state_tokenizer_processor_step", "action_tokenizer_processor"
PUBLISHED = "lerobot/fast-action-tokenizer"


@dataclass(frozen=True, kw_only=True)
class PiFastConfig(PiShared):
    """Keys of `"type": "pi0_fast"`, with the defaults of release 0.6.1."""

    max_action_tokens: int = 256
    text_tokenizer_name: str = "google/paligemma-3b-pt-224"
    action_tokenizer_name: str = PUBLISHED
    temperature: float = 0.0
    max_decoding_steps: int = 256
    fast_skip_tokens: int = 128
    validate_action_token_prefix: bool = True
    use_kv_cache: bool = True
    tokenizer_max_length: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_action_tokens", "max_decoding_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"config.json: {name}: expected at least 1, found {getattr(self, name)}")


@dataclass(frozen=True)
class Write:
    """Config of the step that makes ids of actions; where ids lie in the vocabulary is not saved."""

    trust_remote_code: bool = True
    max_action_tokens: int = 256
    action_tokenizer_name: str | None = None


PRE: Mapping[str, type] = {RELATIVE: Relative, TOKENIZE: Tokenize, TELL: Tell, WRITE: Write}


def parse(data: Mapping[str, Any]) -> PiFastConfig:
    """The checked configuration; raises ConfigError for another type, an unknown key or a wrong value."""
    if data.get("type") != KIND:
        raise ConfigError(f"config.json: type: expected {KIND}, found {data.get('type')!r}")
    return decode(PiFastConfig, data, where="config.json")


def check_steps(config: PiFastConfig, steps: Mapping[str, Any]) -> None:
    """Raises ConfigError where the steps say something else than config.json."""
    for name in (TOKENIZE, TELL, WRITE):
        if name not in steps:
            raise ConfigError(f"policy_preprocessor.json: steps: expected {name!r}, found {sorted(steps)}")
    pairs = (
        (RELATIVE, "enabled", "use_relative_actions"),
        (TOKENIZE, "max_length", "tokenizer_max_length"),
        (WRITE, "max_action_tokens", "max_action_tokens"),
    )
    for name, key, own in pairs:
        found = getattr(steps.get(name, Relative()), key)
        if found != getattr(config, own):
            raise ConfigError(
                f"policy_preprocessor.json: {name}: {key}: expected {getattr(config, own)}, as {own} of config.json "
                f"says, found {found}"
            )
