"""SmolVLA at its published size, random weights: a plan in bf16 beside vla.cpp's, engines in turns.

    python benchmarks/vlacpp_speed.py openmp=BUILD/libvla.so threads=OTHER/libvla.so --peer LEROBOT/bin/python \\
        --converter VLACPP/scripts/convert_smolvla_to_gguf.py --out docs/data/speed-smolvla-vlacpp.json

As `smolvla_speed.py`: two cameras of 512 px, 48 words, ten steps, chunks of 50, two threads, the same weights,
pictures, words, state and noise for all. NAME=LIBRARY are builds of vla.cpp's target `vla`; each plans with and without
flash attention, as its server does with --flash-attn. LeRobot draws the weights, its Python (with `gguf`) runs
vla.cpp's converter, and its float32 plan, made once, is what `off` is from: the norm of the difference over the plan's.
A round during which others took more than a tenth of a core is done again; milliseconds are medians, ratios medians of
paired ones over the fastest vla.cpp.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smolvla_speed import CHUNK, STATE, WIDTH, WORDS, for_lerobot, noise, observation, tokenizer
from turns import Others, Peer, ratio
from vlacpp_peer import inputs, narrowed

HERE = Path(__file__).resolve().parent
SHOWN, OURS, BUSY, TRIES = 512, "nextmove bf16", 0.1, 3
COLUMNS = (
    "engine",
    "ms a plan",
    "x the peer's best",
    "least ms",
    "vision, ms",
    "off LeRobot's float32",
    "peak memory, GiB",
)


def weights(given: argparse.Namespace, folder: Path) -> list[list[float]]:
    """Writes LeRobot's folder, a tokenizer beside it and vla.cpp's file; LeRobot's plan in float32."""
    sizes = [f"--threads={given.threads}", f"--cameras={given.cameras}"]
    with Peer([given.peer, str(HERE / "lerobot_smolvla.py"), str(folder), *sizes]) as peer:
        torch.save(for_lerobot(given.cameras), folder / "inputs.pt")
        plan = peer("plan", precision="float32", inputs=str(folder / "inputs.pt"))["actions"]
    tokenizer(folder)
    narrowed(folder, folder / "narrowed")
    made = [given.peer, given.converter, "--ckpt", folder / "narrowed", "--out", folder / "vla.gguf"]
    subprocess.run(made, check=True, stdout=sys.stderr)
    shutil.rmtree(folder / "narrowed")
    np.savez(folder / "inputs.npz", **inputs(observation(0, given.cameras), noise(), SHOWN, WIDTH))
    return list(plan)


def engines(given: argparse.Namespace, folder: Path, stack: ExitStack) -> dict[str, Peer]:
    """A process for each engine, by name."""
    threads = f"--threads={given.threads}"
    ours = [sys.executable, str(HERE / "smolvla_speed.py"), threads, f"--cameras={given.cameras}"]
    commands = {OURS: [*ours, "--folder", str(folder), "--engine", "bf16"]}
    for name, _, library in (build.partition("=") for build in given.builds):
        files = [library, str(folder / "vla.gguf"), str(folder / "inputs.npz")]
        command = [sys.executable, str(HERE / "vlacpp_peer.py"), *files, threads, f"--actions={STATE}"]
        commands |= {f"vla.cpp bf16, {name}": command, f"vla.cpp bf16, {name}, flash": [*command, "--flash"]}
    return {name: stack.enter_context(Peer(command)) for name, command in commands.items()}


def rounds(given: argparse.Namespace, peers: dict[str, Peer]) -> list[dict[str, Any]]:
    """The answers of rounds during which the machine did nothing else, after one that is left out.

    Raises SystemExit where there is none.
    """
    if given.wait:
        input("ready; Enter begins the rounds\n")
    others, found = Others([os.getpid(), *(peer.process for peer in peers.values())]), list[dict[str, Any]]()
    for turn in range(1 + TRIES * given.rounds):
        told = {name: others.during(lambda own=own: own("plan")) for name, own in peers.items()}
        busy = max(cores for _, cores in told.values())
        print({name: round(answer["ms"]) for name, (answer, _) in told.items()}, f"others {busy:.2f} cores", flush=True)
        if turn and busy <= BUSY:
            found.append({name: answer for name, (answer, _) in told.items()})
        if len(found) == given.rounds:
            break
    if not found:
        raise SystemExit(f"expected a machine that does nothing else, found {busy:.2f} cores taken by others")
    return found


def table(found: list[dict[str, Any]], plan: list[list[float]]) -> list[list[str]]:
    """Rows by engine."""
    ms = {name: [one[name]["ms"] for one in found] for name in found[0]}
    best = min((name for name in ms if name != OURS), key=lambda name: statistics.median(ms[name]))
    rows = []
    for name, own in ms.items():
        last = found[-1][name]
        apart = np.linalg.norm(np.array(last["actions"]) - plan) / np.linalg.norm(plan)
        vision = statistics.median(one[name]["vision"] for one in found)
        rows.append([
            name, f"{statistics.median(own):.0f}", f"{ratio(ms[best], own):.2f}", f"{min(own):.0f}", f"{vision:.0f}",
            f"{100 * apart:.3g} %", f"{last['peak_mib'] / 1024:.1f}",
        ])  # fmt: skip
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs="+", metavar="NAME=LIBRARY")
    parser.add_argument("--peer", required=True, help="a Python that has LeRobot 0.6.1, transformers and gguf")
    parser.add_argument("--converter", required=True, help="vla.cpp's scripts/convert_smolvla_to_gguf.py")
    parser.add_argument("--built", default="release builds", help="what was built of vla.cpp, for the table's note")
    parser.add_argument("--wait", action="store_true", help="wait for Enter before the rounds, once all is loaded")
    parser.add_argument("--out", type=Path)
    for name, default in (("threads", 2), ("cameras", 2), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        os.environ["XDG_CACHE_HOME"] = place
        plan = weights(given, Path(place))
        found = rounds(given, engines(given, Path(place), stack))
    rows = table(found, plan)
    for row in [COLUMNS, *rows]:
        print(" | ".join(row))
    if given.out:
        write(given, len(found), rows)


def write(given: argparse.Namespace, count: int, rows: list[list[str]]) -> None:
    """The table for docs/data."""
    from nextmove.evaluation.machine import machine

    data = {
        "title": "SmolVLA at its published size: a plan in bf16 beside vla.cpp",
        "command": "python benchmarks/vlacpp_speed.py NAME=LIBVLA.so ... --peer LEROBOT/bin/python --converter SCRIPT "
        f"--out {given.out}",
        "note": f"Random weights; {given.cameras} cameras of 512 px, {WORDS} words, ten steps, chunks of {CHUNK}, "
        f"{given.threads} threads; medians of {count} rounds in turns, during which others took less than a tenth of a "
        f"core. Ours: OpenVINO. vla.cpp: {given.built}; flash: with flash attention in its image tower, which it has "
        "elsewhere always. It is given pictures that are resized already, which ours resizes within its time. Peaks "
        "are since a process began, ours while it compiles.",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": {name: version(name) for name in ("torch", "openvino", "numpy")} | {"lerobot": "0.6.1"},
        "columns": list(COLUMNS),
        "rows": rows,
    }
    given.out.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
