"""Does an OpenVLA that we changed and wrote act the same in its authors' own class? One JSON line.

    python -m benchmarks.openvla_acts PYTHON FOLDER     # an environment as of `vla_openvla.py`, OpenVLA's repository

The small recorded case of the tests is loaded, every weight is changed as a training would, and `openvla.export` writes
a folder. The authors' class loads it strictly, every tensor is compared with the file's, and it computes the logits
of ids and pixels and, by its own `generate` and `predict_action`, ids and actions of a robot by its key.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from benchmarks.kept_table import keep
from benchmarks.parity.openvla import ACTION, answers
from safetensors.torch import load_file, save_file
from tests.interop.openvla_folders import GOLDEN, asked, folder_of

from nextmove.contracts import normal, seeded
from nextmove.interop import openvla

CHANGE = 0.02
"""Spread of what is added to weights."""
KEPT = ("out.logits_tail", "out.logits_logsumexp", "out.generated")
"""What is compared, beside actions."""
PEER = Path(__file__).parent / "vla_openvla.py"


def write(place: Path) -> dict[str, Any]:
    """Our side: the changed folder, and what it answers to the recorded inputs."""
    folder = folder_of(place / "golden")
    loaded = openvla.load(folder, asked())
    rng = seeded(3)
    with torch.no_grad():
        for weight in loaded.policy.parameters():
            weight.add_(CHANGE * normal(weight.shape, rng))
    openvla.export(loaded.policy, place / "theirs", config=loaded.config, like=folder)
    (place / "theirs" / "case.json").write_bytes((GOLDEN / "openvla" / "case.json").read_bytes())
    recorded = load_file(folder / "io.safetensors")
    made = answers(place / "theirs", {name: value for name, value in recorded.items() if not name.startswith("grad.")})
    found = {name: value for name, value in {**made.found, **made.texts}.items() if name in KEPT or ACTION in name}
    shown = {name: recorded[name] for name in recorded if name.startswith("in.")}
    save_file({name: value.contiguous() for name, value in {**found, **shown}.items()}, place / "case.safetensors")
    return {"parameters": sum(p.numel() for p in loaded.policy.parameters())}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="the Python of an environment with what OpenVLA's class needs")
    parser.add_argument("source", help="OpenVLA's repository")
    parser.add_argument("--keep", action="store_true", help="write the table in docs/data")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        facts = write(Path(place))
        done = subprocess.run([given.python, str(PEER), given.source, place], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{done.stdout[-1000:]}{done.stderr[-3000:]}")
    one: dict[str, Any] = facts | json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(one))
    if given.keep:
        keep(
            "openvla-acts-ours",
            title="An OpenVLA of ours in its authors' class",
            command="python -m benchmarks.openvla_acts OPENVLA/bin/python FOLDER --keep",
            note="A small OpenVLA (both towers, projector, Llama, vocabulary padded) whose every weight was changed, "
            f"written by `openvla.export`. `OpenVLAForActionPrediction` of its authors' repository (transformers "
            f"{one['transformers']}, timm {one['timm']}), told the towers' sizes, loaded the folder strictly. Ids: "
            "those that its `generate` writes. Actions: of its `predict_action`, by each key of statistics. Logits: of "
            "what is no padding.",
            columns=["parameters, M", "tensors", "lacking, left over or others", "logits", "their spread",
                     "ids that differ", "keys", "actions"],
            rows=[[
                f"{one['parameters'] / 1e6:.2f}", str(one["tensors"]), str(one["wrong"]), f"{one['logits']:.1e}",
                f"{one['spread']:.2f}", f"{one['ids_differ']} of {one['ids']}", str(one["keys"]),
                f"{one['actions']:.1e}",
            ]],
        )  # fmt: skip


if __name__ == "__main__":
    main()
