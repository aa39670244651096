"""Is an interrupted training the training that was not interrupted, and is one on two processes that on one?

    python benchmarks/exactness.py

1. PixelCNN on digits, with augmentation, dropout and two loader processes: 60 steps at once, against the same with
   Ctrl-C somewhere after step 20 and `--resume`. Every loss, weight, average and moment must be equal to the bit.
2. The Flow Policy without dropout, whose masks are each process's own, on recorded demonstrations under
   `torchrun --nproc_per_node 2`, against one process.
One JSON line each.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file

NEXTMOVE = ["-m", "nextmove.cli.main"]
PIXELS = [
    "train", "pixelcnn", "digits", "--steps", "60", "--levels", "2", "--workers", "2", "--threads", "1",
    "--augment.degrees", "9", "--augment.shift", "0.5", "--out",
]  # fmt: skip
RUNS = ("whole", "parts")


def losses(run: Path) -> dict[tuple[str, int], float]:
    """Every reported loss by kind and step."""
    lines = [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]
    return {(line["kind"], line["step"]): line["loss"] for line in lines if line["kind"] in ("step", "validation")}


def call(*arguments: str) -> None:
    """A command that must succeed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)


def interrupted(out: Path) -> int:
    """Starts the training and presses Ctrl-C after step 20; the step it stopped at."""
    process = subprocess.Popen([sys.executable, *NEXTMOVE, *PIXELS, str(out)], stdout=subprocess.DEVNULL)
    log = out / "train.jsonl"
    while not log.is_file() or not any(step >= 20 for _, step in losses(out)):
        if process.poll() is not None:
            raise SystemExit("the training ended before it could be interrupted")
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.wait()
    return int(max((out / "checkpoints").glob("last-*")).name.removeprefix("last-"))


def resume(folder: Path) -> dict[str, object]:
    """The first claim."""
    call(*NEXTMOVE, *PIXELS, str(folder / "whole"))
    stopped = interrupted(folder / "parts")
    call(*NEXTMOVE, *PIXELS, str(folder / "parts"), "--resume")
    whole, parts = (load_file(folder / run / "checkpoints" / "last-60" / "state.safetensors") for run in RUNS)
    traces = [losses(folder / run) for run in RUNS]
    return {
        "claim": "resume", "stopped_at": stopped, "steps": 60, "tensors": len(whole),
        "tensors_not_equal": sum(not whole[name].equal(parts[name]) for name in whole),
        "losses": len(traces[0]), "losses_equal": traces[0] == traces[1],
    }  # fmt: skip


def processes(folder: Path) -> dict[str, object]:
    """The second claim."""
    call(*NEXTMOVE, "record", "pusht", "--episodes", "30", "--out", str(folder / "demos"))
    train = [
        *NEXTMOVE, "train", "flow-policy", str(folder / "demos"), "--steps", "100", "--threads", "1",
        "--recipe.decoder.trunk.dropout", "0", "--out",
    ]  # fmt: skip
    call(*train, str(folder / "one"))
    call("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *train, str(folder / "two"))
    one, two = losses(folder / "one"), losses(folder / "two")
    assert one.keys() == two.keys()
    off = max(abs(two[key] - one[key]) / abs(one[key]) for key in one)
    return {"claim": "torchrun", "processes": 2, "steps": 100, "losses": len(one), "max_relative_loss_diff": off}


def main() -> None:
    """Both claims."""
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(resume(Path(folder))), flush=True)
        print(json.dumps(processes(Path(folder))), flush=True)


if __name__ == "__main__":
    main()
