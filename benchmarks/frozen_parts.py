"""Memory and disk that a large model takes: a billion random weights in bf16, loaded, then fine-tuned in a hundredth.

    python benchmarks/frozen_parts.py [--width 1824] [--layers 25] [--folder DIR] [--out FILE]

Every way of loading runs in a process of its own. Its memory is the peak of all resident pages, those of the mapped
file included, over what the process has after its imports and after a small model of the same kind was loaded; every
weight is read once before the peak is taken. `as built` is what loading was before: a model of float32 weights, drawn,
then overwritten from the mapped file. Fine-tuned are the output projections of the last attentions, in float32, with
averaged weights, for two steps; sizes are those of the checkpoint's folder. Takes 7 GB of memory, 5 GB of disk below
`--folder` (removed at the end), and some minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from nextmove import store, training, weights
from nextmove.contracts import Optim
from nextmove.decoders import Autoregressive
from nextmove.evaluation.machine import machine
from nextmove.host.files import write_json
from nextmove.models.generator import TextSpec
from nextmove.models.text.gpt import ModernGpt
from nextmove.nn import Gpt
from nextmove.nn.attention import Heads
from nextmove.nn.feedforward import GatedMlp
from nextmove.nn.norm import RmsNorm

HEAD_WIDTH = 96
SPEC = TextSpec(unit="characters", length=64, vocabulary=tuple("abcdefgh"))
LOADING: dict[str, Callable[[Path], Any]] = {
    "copied": store.load,
    "mapped": lambda folder: store.load(folder, mapped=True),
    "as float32": lambda folder: store.load(folder, dtype=torch.float32),
}


def recipe(width: int, layers: int) -> ModernGpt:
    """A transformer of the modern kind."""
    norm, heads = RmsNorm(), Heads(width // HEAD_WIDTH, bias=False, out_bias=False, norm=RmsNorm())
    trunk = Gpt(width, layers, heads, positions="rotary", norm=norm, feedforward=GatedMlp(), head="plain")
    return ModernGpt(decoder=Autoregressive(trunk=trunk))


def make(folder: Path, width: int, layers: int) -> None:
    """Saves such a model with random weights in bf16."""
    with weights.without_storage():
        model = store.create("gpt-modern", SPEC, recipe(width, layers))
    drawn = torch.Generator().manual_seed(0)
    state = {name: 0.02 * torch.randn(p.shape, generator=drawn, dtype=torch.bfloat16) for name, p in sizes(model)}
    weights.assign(model, state, where="drawn")
    store.save(model, folder)


def sizes(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and shapes of the state."""
    yield from model.state_dict().items()


def as_built(folder: Path) -> Any:
    """The model built with float32 weights, which the file's then replace."""
    config = store.read_config(folder)["recipe"]["decoder"]["trunk"]
    model = store.create("gpt-modern", SPEC, recipe(config["width"], config["layers"]))
    model.load_state_dict(weights.read(folder / "model.safetensors", mapped=True))
    return model


def resident(key: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])


def peak(do: Callable[[], Any]) -> int:
    """Bytes that `do` took at most beyond what was there."""
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    do()
    return resident("VmHWM") - before


def loaded(way: str, folder: Path) -> dict[str, Any]:
    """Peak and seconds of one way of loading; every weight is read."""
    load = LOADING.get(way, as_built)
    load(folder / "small")

    def whole() -> None:
        model = load(folder / "large")
        assert sum(bool(p.isfinite().all()) for p in model.parameters()) == sum(1 for _ in model.parameters())

    start = time.perf_counter()
    bytes_ = peak(whole)
    return {"peak": bytes_, "seconds": round(time.perf_counter() - start, 1)}


def tuned(folder: Path) -> dict[str, Any]:
    """Peak of memory and sizes of the checkpoints of a run that trains a hundredth."""
    ids = torch.arange(SPEC.length)[None] % len(SPEC.vocabulary)
    config = training.TrainConfig(steps=2, bf16="on", progress="off", tensorboard=False)
    counts: dict[str, int] = {}

    def batches(start: int, rank: int, world: int) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield {"ids": ids}

    def whole(source: Path, out: Path) -> None:
        model = store.load(source)
        layers = len(model.decoder.net.stream.blocks)
        names = [f"decoder.net.stream.blocks.{i}.attention.out_proj" for i in range(layers - 3, layers)]
        for name in names:
            model.get_submodule(name).float()
        scales = (("", 0.0), *((name, 1.0) for name in names))
        optim = Optim(lr=1e-4, warmup=0, batch=1, ema=0.999, scales=scales)
        training.train(model, batches, out=out, config=config, optim=optim, validation=[{"ids": ids}])
        counts["trained"] = sum(p.numel() for name in names for p in model.get_submodule(name).parameters())
        counts["all"] = sum(p.numel() for p in model.parameters())

    whole(folder / "small", folder / "first")
    taken = peak(lambda: whole(folder / "large", folder / "run"))
    found = {kind: size(next((folder / "run" / "checkpoints").glob(f"{kind}-*"))) for kind in ("last", "best")}
    return {"peak": taken, "trained": counts["trained"], "share": counts["trained"] / counts["all"], **found}


def size(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The table: each number from a fresh process."""

    def fresh(*what: str) -> dict[str, Any]:
        command = [sys.executable, __file__, "--folder", str(folder), "--part", *what]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(what)}: {done.stderr}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    make(folder / "small", HEAD_WIDTH, options.layers)
    make(folder / "large", options.width, options.layers)
    whole = (folder / "large" / "model.safetensors").stat().st_size
    rows: list[list[Any]] = []

    def row(what: str, found: int, note: str) -> None:
        rows.append([what, f"{found / 1e9:.3f} GB", f"{found / whole:.3f}", note])

    row("the file: weights in bf16", whole, f"{whole / 2e9:.3f} billion weights")
    for way in (*LOADING, "as built"):
        found = fresh(way)
        row(f"loading, {way}", found["peak"], f"peak of memory, {found['seconds']} s with every weight read")
    found = fresh("tuned")
    share = f"{100 * found['share']:.2f} % of the weights trained in float32"
    row("fine-tuning", found["peak"], f"peak of memory, loading included; {share}, averaged")
    row("a checkpoint to resume from", found["last"], f"{found['last'] / found['trained']:.1f} bytes a trained weight")
    row("the best averaged weights", found["best"], f"{found['best'] / found['trained']:.1f} bytes a trained weight")
    return {
        "title": "A billion weights: memory to load, disk to fine-tune",
        "command": "python benchmarks/frozen_parts.py",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "note": " ".join((__doc__ or "").split("\n\n")[-1].split("Takes")[0].split()),
        "columns": ["what", "size", "of the file", ""],
        "rows": rows,
    }


def main() -> None:
    """One JSON file, or one part of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=19 * HEAD_WIDTH)
    parser.add_argument("--layers", type=int, default=25)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/data/frozen-parts.json"))
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(tuned(options.folder) if options.part == "tuned" else loaded(options.part, options.folder)))
        return
    folder = Path(tempfile.mkdtemp(dir=options.folder, prefix="frozen-parts-"))
    try:
        write_json(options.out, measure(folder, options))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
