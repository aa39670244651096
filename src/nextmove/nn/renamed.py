"""Names that parameters had in saved models of earlier formats.

A network whose parameters were renamed has a table `RENAMED`: format of the file -> patterns and replacements for names
within the network, of which the first that matches is applied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

Renames = tuple[tuple[str, str], ...]
BEFORE_3 = (1, 2)
"""The formats before format 3."""

LAYER = {
    "self_attn": "attention",
    "multihead_attn": "cross",
    "feedforward.linear1": "feedforward.up",
    "feedforward.linear2": "feedforward.down",
    "norm1": "attention_branch.norm",
}


def of_stacks(*encoders: str) -> Renames:
    """The layers of the encoders named and of `decoder`, called as torch's were in format 1."""
    rules = []
    for stack in (*encoders, "decoder"):
        norms = {"norm2": "cross_branch.norm", "norm3": "feedforward_branch.norm"}
        if stack != "decoder":
            norms = {"norm2": "feedforward_branch.norm"}
        for old, new in (LAYER | norms).items():
            rules.append((rf"^{stack}\.layers\.(\d+)\.{old}\.", rf"{stack}.blocks.\1.{new}."))
    return tuple(rules)


def up_to_date(model: nn.Module, tensors: Mapping[str, Any], written: int) -> dict[str, Any]:
    """The tensors of a file of format `written` under the names that `model` has today."""
    tables: dict[str, Renames] = {}
    for prefix, part in model.named_modules():
        rules = getattr(part, "RENAMED", {}).get(written)
        if rules:
            tables[f"{prefix}." if prefix else ""] = rules
    return {_today(name, tables): value for name, value in tensors.items()}


def _today(name: str, tables: Mapping[str, Renames]) -> str:
    for prefix, rules in tables.items():
        if name.startswith(prefix):
            inside = name.removeprefix(prefix)
            for old, new in rules:
                found, count = re.subn(old, new, inside)
                if count:
                    return prefix + found
    return name
