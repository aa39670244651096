"""SmolVLA at its published size, random weights: a plan by OpenVINO beside LeRobot 0.6.1, engines in turns.

    python benchmarks/smolvla_speed.py --peer LEROBOT/bin/python --out docs/data/speed-smolvla.json

Two cameras of 256 px, shown at 512, 48 words, ten steps, chunks of 50, two threads. LeRobot's process
(`lerobot_smolvla.py`) draws the weights and writes its folder, which ours read strictly; each engine is a process of
its own with the same pictures, words, state and noise, so peak memory is an engine's. Milliseconds are medians, ratios
medians of paired ones over LeRobot's float32; `off` is the norm of a chunk's difference from LeRobot's float32 over
the chunk's. w8a8 is calibrated on eight other observations. `compiled` are the seconds to the first plan with an empty
cache, `kept` those of a second process. The speed of the processor's own products in each precision stands beside.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nextmove.contracts import Rows, seeded
from nextmove.interop import smolvla
from nextmove.runtime import calibrate, compiled
from nextmove.runtime.program import core, openvino
from turns import Peer, answer, ratio

HERE = Path(__file__).resolve().parent
SIDE, STATE, WORDS, CHUNK, WIDTH, IDS = 256, 6, 48, 50, 32, 49280
CALIBRATED = 8
PRECISIONS = ("float32", "bf16", "w8a8")
PARTS = {"vision": "vision", "prefix": "prefix", "step": "denoising"}
COLUMNS = (
    "ms a plan", "x LeRobot float32", "vision, ms", "prefix, ms", "denoising, ms", "off LeRobot's float32",
    "compiled, s", "kept, s", "peak memory, GiB",
)  # fmt: skip


def observation(seed: int, cameras: int) -> dict[str, Any]:
    """What the policy sees: pictures, a state, words that are one id each."""
    rng = seeded(7, seed)
    names = [f"observation.images.c{i}" for i in range(cameras)]
    found: dict[str, Any] = {name: _picture(rng, seed, i)[None, None] for i, name in enumerate(names)}
    ids = torch.randint(0, IDS - 200, (WORDS,), generator=rng).tolist()
    return {
        **found,
        "observation.state": torch.randn(1, 1, STATE, generator=rng),
        "task": [" ".join(f"w{i}" for i in ids)],
    }


def _picture(rng: torch.Generator, seed: int, camera: int) -> torch.Tensor:
    """Waves and noise (height, width, 3) uint8, which differ by seed and camera."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    waves = [torch.sin(x / (9 + c + seed) + camera) + torch.cos(y / (7 + 2 * c) + seed) for c in range(3)]
    noise = 20 * torch.randn(SIDE, SIDE, 3, generator=rng)
    return (128 + 50 * torch.stack(waves, -1) + noise).clamp(0, 255).to(torch.uint8)


def noise() -> torch.Tensor:
    """What every plan begins with."""
    return torch.randn(1, CHUNK, WIDTH, generator=seeded(3))


def for_lerobot(cameras: int) -> dict[str, torch.Tensor]:
    """The same as LeRobot's networks take it."""
    seen = observation(0, cameras)
    ids = [int(word[1:]) for word in seen["task"][0].split()]
    batch = {n: v[:, 0].movedim(-1, 1).float() / 255 for n, v in seen.items() if n.startswith("observation.images")}
    batch |= {"observation.state": seen["observation.state"][:, 0]}
    batch |= {"observation.language.tokens": torch.tensor([ids])}
    batch |= {"observation.language.attention_mask": torch.ones(1, len(ids), dtype=torch.bool)}
    return {**batch, "noise": noise()}


def tokenizer(folder: Path) -> None:
    """A tokenizer.json in which every word is one id."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    backend = Tokenizer(models.WordLevel({f"w{i}": i for i in range(IDS - 100)} | {"?": IDS - 1}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.save(str(folder / "tokenizer.json"))


def engine(folder: Path, precision: str, cameras: int, threads: int) -> None:
    """One of ours: answers requests for plans."""
    torch.set_num_threads(threads)
    policy = smolvla.load(folder, fps=30).policy
    began = time.perf_counter()
    if precision == "torch":
        made = policy
    else:
        shown = [observation(1 + i, cameras) for i in range(CALIBRATED)]
        ranges = calibrate(policy, shown) if precision == "w8a8" else None
        found = time.perf_counter() - began
        began = time.perf_counter()
        made = compiled(policy, precision, ranges)  # type: ignore[arg-type]
    ms: dict[str, float] = {}
    for name, network in made.networks().items():
        _timed(network, PARTS[name], ms)
    seen, start = observation(0, cameras), noise()

    def plan() -> dict[str, Any]:
        ms.clear()
        begun = time.perf_counter()
        with torch.inference_mode():
            actions = made.generate(seen, rng=Rows([seeded(0)]), noise=start)
        whole = 1000 * (time.perf_counter() - begun)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"ms": whole, **ms, "actions": actions[0].tolist(), "peak_mib": peak}

    plan()
    ready = {"compiled": time.perf_counter() - began}
    if precision == "w8a8":
        ready["calibrated"] = found
    answer({"plan": plan}, ready)


def _timed(network: torch.nn.Module, part: str, ms: dict[str, float]) -> None:
    begun: list[float] = []
    network.register_forward_pre_hook(lambda *_: begun.append(time.perf_counter()))
    network.register_forward_hook(
        lambda *_: ms.update({part: ms.get(part, 0.0) + 1000 * (time.perf_counter() - begun.pop())})
    )


def products(threads: int) -> dict[str, float]:
    """GFLOP/s of OpenVINO's product (1024, 768) x (768, 3072), the largest of the vision tower, by precision."""
    op, speeds = openvino().opset13, {}
    weight = np.random.default_rng(0).standard_normal((3072, 768)).astype(np.float32)
    for precision in PRECISIONS:
        x = op.parameter([1024, 768], np.float32)
        ends = [op.constant(np.float32(v)) for v in (-4, 4, -4, 4)]
        a, b = x, op.constant(weight)
        if precision == "w8a8":
            a, b = op.fake_quantize(a, *ends, 255), op.fake_quantize(b, *ends, 255)
        # Three in a row, so that what is rounded between them counts.
        y = op.matmul(a, b, False, True)
        kind = "f32" if precision == "float32" else "bf16"
        model = openvino().Model([op.result(y)], [x], "product")
        hints = {"INFERENCE_PRECISION_HINT": kind, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(threads)}
        request = core().compile_model(model, "CPU", hints).create_infer_request()
        given, best = np.random.default_rng(1).standard_normal((1024, 768)).astype(np.float32), float("inf")
        for _ in range(20):
            began = time.perf_counter()
            request.infer([given], share_inputs=True, share_outputs=True)
            best = min(best, time.perf_counter() - began)
        speeds[precision] = round(2e-9 * 1024 * 768 * 3072 / best)
    return speeds


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All engines in turns: their answers, round by round."""
    sizes = [f"--threads={given.threads}", f"--cameras={given.cameras}"]
    mine = [sys.executable, __file__, *sizes, "--folder", str(folder), "--engine"]
    found: dict[str, Any] = {"rounds": [], "ready": {}}
    with ExitStack() as stack:
        peer = stack.enter_context(Peer([given.peer, str(HERE / "lerobot_smolvla.py"), str(folder), *sizes]))
        torch.save(for_lerobot(given.cameras), folder / "inputs.pt")
        tokenizer(folder)
        for name in given.engines:
            with Peer([*mine, name]) as first:
                found["ready"][name] = first.ready
        engines = {f"openvino-{name}": stack.enter_context(Peer([*mine, name])) for name in given.engines}
        for name in given.engines:
            found["ready"][name]["kept"] = engines[f"openvino-{name}"].ready["compiled"]
        asked = {"precision": "float32", "inputs": str(folder / "inputs.pt")}
        sides: dict[str, Any] = {"lerobot-float32": lambda: peer("plan", **asked)}
        if not given.short:
            sides["lerobot-bf16"] = lambda: peer("plan", **{**asked, "precision": "bf16"})
        sides |= {name: lambda own=own: own("plan") for name, own in engines.items()}
        for turn in range(given.rounds + 1):
            one = {name: side() for name, side in sides.items()}
            found["rounds"] += [one] if turn else []
            print({name: round(answered["ms"]) for name, answered in one.items()}, flush=True)
    return found


def table(found: dict[str, Any]) -> list[list[str]]:
    """Rows by engine."""
    rounds, rows = found["rounds"], []
    base = [one["lerobot-float32"] for one in rounds]
    wanted = np.array(base[-1]["actions"])
    for name in rounds[0]:
        own = [one[name] for one in rounds]
        ready = found["ready"].get(name.removeprefix("openvino-"), {})
        times = ratio([x["ms"] for x in base], [x["ms"] for x in own])
        apart = np.linalg.norm(np.array(own[-1]["actions"]) - wanted) / np.linalg.norm(wanted)
        parts = [f"{statistics.median(x[part] for x in own):.0f}" for part in ("ms", *PARTS.values())]
        seconds = [f"{ready[key]:.1f}" if key in ready else "" for key in ("compiled", "kept")]
        peak = f"{own[-1]['peak_mib'] / 1024:.1f}"
        rows.append([name, parts[0], f"{times:.2f}", *parts[1:], f"{100 * apart:.3g} %", *seconds, peak])
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="a Python that has LeRobot 0.6.1 with transformers")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--engines", nargs="*", default=list(PRECISIONS))
    parser.add_argument("--short", action="store_true", help="LeRobot in float32 only")
    for name, default in (("threads", 2), ("cameras", 2), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.engine:
        return engine(given.folder, given.engine, given.cameras, given.threads)
    if not given.peer:
        parser.error("--peer: expected a Python that has LeRobot")
    with tempfile.TemporaryDirectory() as place:
        os.environ["XDG_CACHE_HOME"] = place
        found = measure(given, Path(place))
    rows, speeds = table(found), products(given.threads)
    for row in [["engine", *COLUMNS], *rows]:
        print(" | ".join(row))
    print("GFLOP/s of its products", speeds)
    if given.out:
        _write(given, found, rows, speeds)


def _write(given: argparse.Namespace, found: dict[str, Any], rows: list[list[str]], speeds: dict[str, float]) -> None:
    from nextmove.evaluation.machine import machine

    packages = ("torch", "openvino", "numpy")
    calibrated = found["ready"].get("w8a8", {}).get("calibrated", 0.0)
    data = {
        "title": "SmolVLA at its published size: a plan on a CPU, beside LeRobot 0.6.1",
        "command": f"python benchmarks/smolvla_speed.py --peer LEROBOT/bin/python --out {given.out}",
        "note": f"Random weights; {given.cameras} cameras of 512 px, {WORDS} words, ten steps, chunks of {CHUNK}, "
        f"{given.threads} threads; medians of {given.rounds} rounds in turns. GFLOP/s of OpenVINO's product of the "
        f"vision tower's largest layer: {', '.join(f'{k} {v:.0f}' for k, v in speeds.items())}. Ranges of w8a8 are "
        f"found on {CALIBRATED} other observations in {calibrated:.0f} s, once.",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": {name: version(name) for name in packages} | {"lerobot": "0.6.1"},
        "columns": ["engine", *COLUMNS],
        "rows": rows,
        "products": speeds,
    }
    given.out.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
