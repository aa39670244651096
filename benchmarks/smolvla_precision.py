"""What a small SmolVLA that learned here solves in float32 and with 8 bits for all that is multiplied.

    nextmove record metaworld/button-press-topdown --episodes 50 --cameras corner2=96x96 --out runs/press
    nextmove train smolvla runs/press --minutes 24 --clock busy --threads 1 --out runs/small  # 6 with bf16 units
    nextmove evaluate runs/small --task metaworld/button-press-topdown --episodes 100 --blind
    nextmove evaluate runs/small --task metaworld/button-press-topdown --episodes 100 --blind --runtime openvino \\
        --precision w8a8 --least-weights 4096 --out runs/small-w8a8
    python benchmarks/smolvla_precision.py runs/small runs/small-w8a8

Without --least-weights products of at least 262144 weights are rounded, of which so small a network has none, and is
refused. The table goes to docs/data/smolvla-precision.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from kept_table import keep
from nextmove import store

ROWS = {"float32 (torch)": "evaluation/report.json", "w8a8 (OpenVINO)": "report.json"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="judged in float32")
    parser.add_argument("rounded", type=Path, help="the folder of the report of the rounded one")
    args = parser.parse_args()
    facts, rows = store.read_config(args.run / "model")["facts"], []
    for (name, report), folder in zip(ROWS.items(), (args.run, args.rounded), strict=True):
        content = json.loads((folder / report).read_text())
        for policy, way in zip(content["policies"].values(), ("", ", blind"), strict=False):
            s = policy["success"]
            interval = f"{100 * s['low']:.0f}–{100 * s['high']:.0f} %"
            rows.append([name + way, f"{s['successes']}/{s['episodes']}", interval])
            print(*rows[-1])
    keep(
        "smolvla-precision",
        title="A small SmolVLA at work in 8 bits",
        command="python benchmarks/smolvla_precision.py runs/small runs/small-w8a8",
        note=(
            f"Trained end to end from one camera of 96 px for {facts['minutes']:.0f} busy minutes of one thread, "
            f"{facts['steps']} steps, on 50 demonstrations of metaworld/button-press-topdown; 100 held-out seeds, one "
            "training seed. w8a8 rounds weights and what they multiply, in ranges found on what the policy sees; for "
            "this network, which has no product of the usual 262144 weights, from 4096 on (--least-weights 4096). "
            "blind: noise for its camera."
        ),
        columns=["precision", "success", "95 % interval"],
        rows=rows,
    )


if __name__ == "__main__":
    main()
