"""What computes a model's networks, by name: options that several jobs have."""

from __future__ import annotations

from typing import Any, Literal, get_args

from nextmove.config import ConfigError, nearest

Runtime = Literal["torch", "openvino"]
TextRuntime = Literal["torch", "openvino", "packed"]
"""Of what is written token by token."""


def check_runtime(runtime: str, precision: str, device: str = "cpu", known: Any = Runtime) -> None:
    """Raises ConfigError for a runtime that is none, and for a precision or device that it has not."""
    names = get_args(known)
    if runtime not in names:
        raise ConfigError(f"runtime: expected {' or '.join(names)}, found {runtime!r}{nearest(runtime, names)}")
    if runtime != "openvino" and precision != "float32":
        only = f"precision: {runtime} computes in float32, found {precision!r}"
        raise ConfigError(f"{only}; --runtime openvino has a choice")
    if runtime == "openvino" and device != "cpu":
        raise ConfigError(f"device: openvino computes on cpu, found {device!r}; leave out --device or --runtime")
