"""What computes a model's networks, by name: options that several jobs have."""

from __future__ import annotations

from typing import Literal, get_args

from nextmove.config import ConfigError, nearest

Runtime = Literal["torch", "openvino"]


def check_runtime(runtime: str, precision: str, device: str = "cpu") -> None:
    """Raises ConfigError for a runtime that is none, and for a precision or device that it has not."""
    known = get_args(Runtime)
    if runtime not in known:
        raise ConfigError(f"runtime: expected {' or '.join(known)}, found {runtime!r}{nearest(runtime, known)}")
    if runtime == "torch" and precision != "float32":
        raise ConfigError(f"precision: torch computes in float32, found {precision!r}; --runtime openvino has a choice")
    if runtime == "openvino" and device != "cpu":
        raise ConfigError(f"device: openvino computes on cpu, found {device!r}; leave out --device or --runtime")
