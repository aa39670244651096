"""The parity of every case of a folder as a table of docs/results.md.

    python -m benchmarks.parity_table DIR [--out docs/data/parity-transformers.json]
    python -m benchmarks.parity_table DIR --policies                # docs/data/parity-policies.json
    python -m benchmarks.parity_table tests/golden --recorded       # docs/data/parity.json, of the cases in GOLDEN

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


REFERENCES = {
    "LeRobot 0.6.1": (
        "act_state", "diffusion_state", "act_options", "act_ensemble", "diffusion_ddim", "diffusion_ddpm", "act_images",
        "diffusion_images", "act_resnet50", "diffusion_separate", "diffusion_resnet34",
    ),
    "LeRobot 0.5.1": ("act_cameras_0.5.1", "diffusion_cameras_0.5.1"),
    "LeRobot 0.4.0": ("act_cameras_0.4.0", "diffusion_cameras_0.4.0"),
    "LeRobot 0.3.3": ("act_state_legacy", "diffusion_images_legacy"),
    "FlowPolicy ff3b3fe": ("flowpolicy",),
    "transformers 5.5.4": ("gpt2", "llama", "smollm2", "sampling"),
}  # fmt: skip
GOLDEN = {case: reference for reference, cases in REFERENCES.items() for case in cases}
"""The recorded cases whose answers have a line each, and what gave them."""
RECORDED = [
    "case", "reference", "largest difference, in float64", "in float32", "loss", "more", "keys used / ignored / missing"
]  # fmt: skip
RECORDED_NOTE = (
    "Whole checkpoints from raw inputs to outputs against what the reference code gave, policies in float64 (what is "
    "left is the reference's rounding) and in float32, language models in float32; the loss difference is relative. "
    "Cases: `tests/golden`. In float32 `diffusion_images` and its legacy form are above the goal of 1e-5 on this "
    "processor, which is another than their answers were recorded on: oneDNN adds in another order in the "
    "convolutions, and the first step of their DDIM divides what differs by a small number. With each of these sums "
    "rounded once they are within 1e-5 here too (tests/interop/test_cases.py)."
)


def recorded(case: Path) -> list[str]:
    """A line of the table of `GOLDEN`."""
    with tempfile.TemporaryDirectory() as folder:
        found = run(case.resolve(), Path(folder))
    print(json.dumps(found), file=sys.stderr)
    if "error" in found or "not_compared" in found:
        raise SystemExit(f"{case.name}: expected all that is recorded to be compared, found {found}")
    numbers = [found["max_abs_diff"], found.get("float32_diff", found["max_abs_diff"]), found["loss_diff"]]
    shown = [NONE if value is None else f"{value:.1e}" for value in numbers]
    more = NONE if found.get(GRADIENTS) is None else f"gradients {found[GRADIENTS]:.1e}"
    if "greedy_equal" in found:
        more = f"greedy text {'equal' if found['greedy_equal'] else 'other'}"
    if "equal" in found:
        more = "every filter and their chain equal" if found["equal"] else "other"
    keys = " / ".join(str(found[f"keys_{what}"]) for what in ("used", "ignored", "missing"))
    return [f"`{case.name}`", GOLDEN[case.name], *shown, more, NONE if "equal" in found else keys]


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


def write(out: Path, title: str, command: str, note: str, columns: list[str], rows: list[list[str]]) -> None:
    """The table as scripts/results.py reads it."""
    table = {
        "title": title,
        "command": command,
        "note": note,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(),
        "columns": columns,
        "rows": rows,
    }
    out.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--policies", action="store_true")
    parser.add_argument("--recorded", action="store_true", help="the cases in GOLDEN, by what they record alone")
    parser.add_argument(
        "--out", type=Path, help="docs/data/parity-transformers.json, parity-policies.json or parity.json if not given"
    )
    arguments = parser.parse_args()
    if arguments.recorded:
        torch.set_num_threads(1)
        rows = [recorded(arguments.folder / name) for name in GOLDEN]
        where = arguments.out or ROOT / "docs" / "data" / "parity.json"
        title = "Foreign checkpoints, run by our parts"
        write(where, title, "python -m benchmarks.parity CASE", RECORDED_NOTE, RECORDED, rows)
        return 0
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
    title = "Policies that see, read and act, run by our parts" if own else "Models of transformers, run by our parts"
    command = f"python -m benchmarks.parity_table DIR{' --policies' if own else ''}"
    write(out, title, command, POLICIES if own else NOTE, COLUMNS, rows)
    print(f"{len(cases)} cases, {len(bad)} wrong{': ' + ', '.join(bad) if bad else ''}; {out}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
