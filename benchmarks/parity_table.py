"""The parity of every case of a folder as a table of docs/results.md.

    python -m benchmarks.parity_table DIR [--out docs/data/parity-transformers.json]
    python -m benchmarks.parity_table DIR --policies                # docs/data/parity-policies.json

DIR holds a case a folder, or a folder of them a system, as `benchmarks/parity.py` runs them: of transformers' models,
or with --policies of policies that see and read; `scripts/results.py write` then writes the page. Ends with 1 where a
case is further off than 1e-4, gives other texts, does not load, or has what is not compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from benchmarks.parity import run
from benchmarks.parity.answers import APART, GRADIENTS

from nextmove.evaluation.machine import machine, versions

ROOT = Path(__file__).resolve().parents[1]
BOUND = 1e-4
COLUMNS = ["case", "model", "largest difference", "loss", "gradients", "texts", "tensors used / left aside"]
NONE = "–"
NOTE = (
    "Whole models from recorded inputs to outputs, in float32, against what transformers 5.5.4 gave (flamingo: "
    "OpenFlamingo's code; blip-pretrain: the authors'); the loss difference is relative. Gradients of the loss with "
    "respect to every tensor of the file, by the file's names, largest absolute difference: from transformers' own "
    "backward pass, for flamingo and blip-pretrain from a plain restatement in float64 that gives the recorded outputs "
    "(benchmarks/parity/restated*.py); – where the reference has no loss. Weights are "
    "drawn at random: what is compared is the computation."
)

POLICIES = (
    "Whole policies from recorded observations to plans, losses and ids, with all that is recorded in between "
    "(pictures, prefix and suffix, who sees whom, positions), in float32, against what the reference gave: "
    "pi0, pi0.5, pi0-FAST and SmolVLA of LeRobot 0.6.1, OpenVLA and its fine-tuned heads of the authors' code, RT-1 of "
    "google-research/robotics_transformer, FAST's published processor. Gradients of the loss with respect to every "
    "tensor of the file, by the file's names, largest absolute difference: from plain restatements in float64 that "
    "give the recorded outputs and losses (benchmarks/parity/restated_*.py), since cases record none; – where there "
    "is no loss, of RT-1, and of the parts that OpenVLA's fine-tuned form adds. Weights are drawn at random: what is "
    "compared is the computation."
)


def measured(case: Path) -> dict[str, Any]:
    """What `benchmarks/parity.py` prints of a case."""
    with tempfile.TemporaryDirectory() as folder:
        return run(case.resolve(), Path(folder), recorded=False)


def row(case: Path, folder: Path, found: dict[str, Any]) -> list[str]:
    """A line of the table."""
    config = case / "config.json"
    model = architecture(config)
    numbers = [found.get(key) for key in ("max_abs_diff", "loss_diff", APART)]
    shown = [NONE if value is None else f"{value:.1e}" for value in numbers]
    texts = {True: "equal", False: "other", None: NONE}[found.get("greedy_equal")]
    return [
        f"`{case.relative_to(folder)}`",
        model,
        *shown,
        texts,
        f"{found.get('keys_used')} / {found.get('keys_ignored')}",
    ]


def architecture(config: Path) -> str:
    """The name that a config gives its model."""
    said = json.loads(config.read_text()) if config.is_file() else {}
    name: str = (said.get("architectures") or [said.get("type", NONE)])[0]
    return name


def wrong(found: dict[str, Any]) -> bool:
    """Whether a case is further off than it may be, or some of what is recorded was left out."""
    numbers = [found.get(key) for key in ("max_abs_diff", "loss_diff", GRADIENTS, APART)]
    off = any(value is not None and not value <= BOUND for value in numbers)
    return off or "error" in found or "not_compared" in found or found.get("greedy_equal") is False


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--policies", action="store_true")
    parser.add_argument(
        "--out", type=Path, help="docs/data/parity-transformers.json or parity-policies.json if not given"
    )
    arguments = parser.parse_args()
    own = arguments.policies
    out = arguments.out or ROOT / "docs" / "data" / f"parity-{'policies' if own else 'transformers'}.json"
    cases = sorted(path.parent for path in arguments.folder.glob("**/io.safetensors"))
    if not cases:
        parser.error(f"folder: expected cases, folders with io.safetensors, found none in {arguments.folder}")
    torch.set_num_threads(1)
    rows, bad = [], []
    for case in cases:
        found = measured(case)
        print(json.dumps(found), file=sys.stderr)
        rows.append(row(case, arguments.folder, found))
        bad += [case.name] if wrong(found) else []
    table = {
        "title": "Policies that see, read and act, run by our parts"
        if own
        else "Models of transformers, run by our parts",
        "command": f"python -m benchmarks.parity_table DIR{' --policies' if own else ''}",
        "note": POLICIES if own else NOTE,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(),
        "columns": COLUMNS,
        "rows": rows,
    }
    out.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(cases)} cases, {len(bad)} wrong{': ' + ', '.join(bad) if bad else ''}; {out}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
