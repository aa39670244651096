"""What reading a folder of transformers gives that is no language model alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nextmove.interop.report import Report


@dataclass(frozen=True)
class Read:
    """A model made of our parts with another project's weights, in evaluation mode, and how it was read."""

    model: Any
    report: Report
    config: Any
    """The foreign configuration, checked."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Tensor names of the file -> names in `model.state_dict()`; packed ones share theirs."""
