"""What a family's function answers to a recorded case, and the comparison by the case's own names.

Answers are called as in the case: `out.*` and `*.actions` are outputs, `loss*` losses, `grad.*` gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nextmove.interop import Report

REMOVED = -1e9
"""How cases write a logit of -inf."""


@dataclass
class Answers:
    """Our tensors by the names of the case.

    units: what a difference of an output is measured in where that is not 1, at least 1. texts: outputs of ids, which
    are equal or not. given: names of outputs that are read as inputs.
    """

    found: dict[str, Tensor] = field(default_factory=dict)
    units: dict[str, Tensor] = field(default_factory=dict)
    texts: dict[str, Tensor] = field(default_factory=dict)
    given: Sequence[str] = ()
    report: Report | None = None
    exact: bool = False
    """Whether outputs are expected to be equal to the last bit."""


ROUNDING = 1e-6
"""A gradient so small beside the largest of a case is 0 but for rounding, as that of a bias of keys is; how far apart
two of them are is then told relative to the largest."""
GRADIENTS, APART = "grad_diff", "grad_abs_diff"
"""The largest difference of gradients relative to each tensor's largest, and as it is."""


def compare(answers: Answers, io: Mapping[str, Tensor]) -> dict[str, Any]:
    """Largest differences of outputs, losses and gradients, whether texts are equal, and what was not compared."""
    groups: dict[str, dict[str, float]] = {"max_abs_diff": {}, "loss_diff": {}, GRADIENTS: {}, APART: {}}
    largest = max((float(value.abs().max()) for name, value in io.items() if name.startswith("grad.")), default=0.0)
    wrong = []
    for name, value in answers.found.items():
        if name not in io:
            continue
        group, found, want = _group(name), value.detach().clamp_min(REMOVED), io[name]
        if group == "loss_diff":  # one number, however the case writes it
            want = want.reshape(found.shape)
        if found.shape != want.shape:
            raise ValueError(f"{name}: expected shape {tuple(want.shape)}, found {tuple(found.shape)}")
        unit = answers.units.get(name, torch.ones(()))
        if group == GRADIENTS:
            groups[APART][name] = float((found - want.to(found)).abs().max())
            size = float(want.abs().max())
            unit = torch.tensor(largest if size < ROUNDING * largest else size)
        groups[group][name] = _difference(group, found, want, unit)
        wrong += [] if torch.equal(found, want) else [name]
    result: dict[str, Any] = {group: max(named.values(), default=None) for group, named in groups.items()}
    result |= {"equal": not wrong} if answers.exact else {}
    if answers.texts:
        texts = [name for name, ids in answers.texts.items() if not torch.equal(ids[:, : io[name].shape[1]], io[name])]
        result |= {"greedy_equal": not texts, **({"greedy_wrong": texts} if texts else {})}
    used, ignored = (0, 0) if answers.report is None else (len(answers.report.used), len(answers.report.ignored))
    result |= {"keys_used": used, "keys_ignored": ignored, "keys_missing": 0}
    done = {*answers.found, *answers.texts, *answers.given}
    expected = [name for name in io if name.startswith(("out.", "loss", "grad.")) or name.endswith(".actions")]
    skipped = [name for name in expected if name not in done]
    return {**result, **({"not_compared": skipped} if skipped else {})}


def _group(name: str) -> str:
    return "loss_diff" if name.startswith("loss") else GRADIENTS if name.startswith("grad.") else "max_abs_diff"


def _difference(group: str, found: Tensor, want: Tensor, unit: Tensor) -> float:
    """Losses relative to what is expected, gradients to their unit, outputs in theirs, of at least 1."""
    apart = (found - want.to(found)).abs()
    if group == "max_abs_diff":
        return float((apart / unit.clamp_min(1)).max())
    return float(apart.max()) / max(float(unit if group == GRADIENTS else want.abs().max()), 1e-12)
