"""Loss traces of two commits from the same seed, and their speeds, block by block in turns.

    python benchmarks/trace.py [SYSTEM ...] [--old a44a6f4] [--steps 200] [--write]

The old commit is checked out into a temporary folder; each side is one process on one thread that makes the same small
models and batches and takes the same AdamW steps. The new commit stands there twice: with products in the old one's
order of additions (`plain`: every product torch's own), and as it is, where products that go through another library
add in another order. One JSON line a system: `loss`, the largest relative difference of a loss in the old order, `own`
the same in the order as it is; `sample`, the largest absolute difference of what the trained models generate from one
seed over its largest value, in the old order; `steps` and `calls`, training steps a second and generated batches a
second as it is, over old (processor time; medians of blocks that take turns). `--write` puts the table into docs/data.
Exits with 1 if a loss in the old order differs by more than 1e-5.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

SYSTEMS = (
    "flow-policy", "diffusion-policy", "act", "gpt", "ddpm", "bc", "lstm-gmm", "diffusion-transformer",
    "consistency-policy", "meanflow-policy", "action-tokens", "rnn", "lstm", "gpt-modern", "imagegpt", "pixelcnn",
    "pixelrnn", "vqvae", "gan", "flow", "meanflow", "dit",
)  # fmt: skip
BLOCK, TOLERANCE = 20, 1e-5
STATE, ENVIRONMENT, GOAL = "observation.state", "observation.environment_state", "observation.goal"


def policy(name: str) -> tuple[Any, Any]:
    """A policy as its recipe has it, and a function to a batch of made-up windows."""
    import torch

    from nextmove import store
    from nextmove.contracts import normal, seeded, uniform
    from nextmove.models.policy import PolicySpec
    from nextmove.systems import find

    widths = {STATE: 2, ENVIRONMENT: 6, GOAL: 6}
    recipe = find(name).load()()
    if name == "flow-policy":
        # The default has changed: it dropped a tenth once.
        recipe = replace(recipe, decoder=replace(recipe.decoder, trunk=replace(recipe.decoder.trunk, dropout=0.0)))
    model = store.create(name, getattr(PolicySpec, "of_states", PolicySpec)(widths, action=2, fps=10.0), recipe)
    times, horizon = model.n_obs_steps, model.horizon

    def batch(seed: int, rows: int = 16) -> dict[str, torch.Tensor]:
        made = {f: 50 * normal((rows, times, w), seeded(seed, i)) for i, (f, w) in enumerate(widths.items())}
        ahead = torch.arange(horizon)[:, None] * uniform((rows, 1, 2), seeded(seed, 8))
        made["action"] = made[STATE][:, -1:] + 3 * ahead + normal((rows, horizon, 2), seeded(seed, 9))
        made["action_is_pad"] = torch.arange(horizon) >= horizon - torch.arange(rows)[:, None] % 4
        return made

    model.fit([batch(0, 256)])
    return model, batch


def text(name: str) -> tuple[Any, Any]:
    """A language model over ten characters."""
    import torch

    from nextmove import store
    from nextmove.codecs import Text
    from nextmove.contracts import seeded
    from nextmove.models.generator import TextSpec

    model = store.create(name, TextSpec("characters", 48, Text.fit("characters", "abcdefghij").vocabulary))
    return model, lambda seed: {"ids": torch.randint(10, (8, 48), generator=seeded(seed))}


def image(name: str) -> tuple[Any, Any]:
    """A generator of 8 x 8 images of 17 levels with labels."""
    import torch

    from nextmove import store
    from nextmove.contracts import seeded
    from nextmove.models.generator import ImageSpec

    levels = 2 if name == "imagegpt" else 17
    model = store.create(name, ImageSpec(8, 8, levels=levels, classes=0 if name == "gan" else 10))

    def batch(seed: int) -> dict[str, torch.Tensor]:
        level = torch.randint(levels, (8, 1, 8, 8), generator=seeded(seed, 1))
        return {"image": level / (levels - 1), "label": torch.randint(10, (8,), generator=seeded(seed, 2))}

    return model, batch


TEXTS = ("gpt", "gpt-modern", "rnn", "lstm")
IMAGES = ("imagegpt", "ddpm", "dit", "pixelcnn", "pixelrnn", "vqvae", "gan", "flow", "meanflow")
MAKERS = dict.fromkeys(TEXTS, text) | dict.fromkeys(IMAGES, image)


class Side:
    """One system of this commit: its model, optimiser and batches."""

    def __init__(self, name: str) -> None:
        import torch

        torch.manual_seed(0)
        self.model, self.batch = MAKERS.get(name, policy)(name)
        decoder = self.model.decoder
        if hasattr(getattr(decoder, "sampler", None), "steps"):
            self.model.decoder = decoder.with_sampler(replace(decoder.sampler, steps=10))
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.step = 0

    def train(self, steps: int) -> dict[str, Any]:
        """Losses of the next steps, and the processor's seconds they took."""
        from nextmove.contracts import seeded, total

        losses, seconds = [], 0.0
        self.model.train()
        for _ in range(steps):
            data = self.batch(self.step)
            start = time.process_time()
            loss = total(self.model.loss(data, rng=seeded(self.step, 3)))
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            seconds += time.process_time() - start
            losses.append(loss.item())
            self.step += 1
        return {"losses": losses, "seconds": seconds}

    def sample(self) -> dict[str, Any]:
        """The first values of what is generated, and the processor's seconds."""
        data = self.batch(0)
        self.model.eval()
        start = time.process_time()
        values = [float(value) for value in generated(self.model, data).flatten()[:512]]
        return {"values": values, "seconds": time.process_time() - start}


def in_the_old_order() -> None:
    """Every product torch's own, whose order of additions is the old commit's."""
    from nextmove.nn import product

    product.slow_mkl = lambda: False
    product.LEAST = 1 << 21


def child(plain: bool) -> None:
    """Answers lines "SYSTEM STEPS"; 0 steps ask for what the model generates, a new system is made first."""
    import torch

    torch.set_num_threads(1)
    if plain:
        in_the_old_order()
    current, side = "", None
    for line in sys.stdin:
        name, steps = line.split()
        if side is None or name != current:
            current, side = name, Side(name)
        answer = side.train(int(steps)) if int(steps) else side.sample()
        print(json.dumps(answer), flush=True)


def generated(model: Any, data: dict[str, Any]) -> Any:
    """Plans for two robots, two texts or two images."""
    from nextmove.contracts import Rows, seeded

    rng = Rows([seeded(1), seeded(2)])
    if hasattr(model, "act"):
        return model.act({k: v[:2] for k, v in data.items() if k.startswith("observation.")}, rng=rng).actions
    if "ids" in data:
        return model.decoder.sample(model.context({}, 2), shape=model.shape, rng=rng)
    return model.generate(2, rng=rng, inputs={k: v[:2] for k, v in data.items() if k == "label"})


def ask(side: subprocess.Popen[str], name: str, steps: int) -> dict[str, Any]:
    """A block of steps, or with 0 of what is generated."""
    assert side.stdin is not None
    assert side.stdout is not None
    side.stdin.write(f"{name} {steps}\n")
    side.stdin.flush()
    line = side.stdout.readline()
    if not line:
        raise SystemExit("a side ended early")
    answer: dict[str, Any] = json.loads(line)
    return answer


Sides = list[subprocess.Popen[str]]
"""Old, new in the old order, new as it is."""


def compared(name: str, sides: Sides, steps: int) -> dict[str, Any]:
    """The line of one system."""
    losses: list[list[float]] = [[], [], []]
    ratios: list[float] = []
    calls: list[float] = []
    for block in range(-(-steps // BLOCK)):
        # Who goes first changes, so that none always finds the others' traces in the caches.
        order = (0, 1, 2) if block % 2 else (2, 1, 0)
        answers = {side: ask(sides[side], name, min(BLOCK, steps - block * BLOCK)) for side in order}
        ratios.append(answers[0]["seconds"] / answers[2]["seconds"])
        for side in order:
            losses[side].extend(answers[side]["losses"])
    values = [ask(side, name, 0)["values"] for side in sides[:2]]
    for call in range(6):
        answers = {side: ask(sides[side], name, 0) for side in ((0, 2) if call % 2 else (2, 0))}
        calls.append(answers[0]["seconds"] / answers[2]["seconds"])
    largest = max(abs(value) for value in values[0]) or 1.0
    return {
        "system": name,
        "loss": away(losses[0], losses[1]),
        "own": away(losses[0], losses[2]),
        "sample": max(abs(a - b) for a, b in zip(*values, strict=True)) / largest,
        "steps": round(statistics.median(ratios), 3),
        "calls": round(statistics.median(calls), 3),
    }


def away(old: list[float], new: list[float]) -> float:
    """The largest relative difference."""
    return max(abs(a - b) / max(abs(a), 1e-12) for a, b in zip(old, new, strict=True))


def opened(source: Path, *options: str) -> subprocess.Popen[str]:
    """A side's process, with the package of `source`."""
    environment = {**os.environ, "PYTHONPATH": str(source / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--child", *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The tree of a commit in a temporary folder."""
    root = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "old"
        git = ["git", "-C", str(root), "worktree"]
        subprocess.run([*git, "add", "--detach", str(place), commit], check=True, capture_output=True)
        try:
            yield place
        finally:
            subprocess.run([*git, "remove", "--force", str(place)], check=True)


def main() -> int:
    """All systems named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", default=SYSTEMS)
    parser.add_argument("--old", default="a44a6f4")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--write", action="store_true", help="the table into docs/data/trace.json")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.plain)
        return 0
    lines = []
    with checked_out(options.old) as old:
        here = Path(__file__).parents[1]
        sides = [opened(old), opened(here, "--plain"), opened(here)]
        for name in options.systems:
            lines.append(compared(name, sides, options.steps))
            print(json.dumps(lines[-1]), flush=True)
        for side in sides:
            side.communicate()
    if options.write:
        write(lines, options)
    return int(not all(line["loss"] <= TOLERANCE for line in lines))


def write(lines: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """The table of docs/results.md."""
    from nextmove.evaluation.machine import machine

    content = {
        "title": f"Losses over {options.steps} steps beside {options.old}",
        "command": "python benchmarks/trace.py --write",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "note": "The same seed, models and batches; largest relative difference of a loss, and largest difference of "
        "what the trained models then generate over its largest value. As it is, large products go through oneDNN on "
        "AMD's processors, which adds in another order; AdamW carries the difference on from step to step.",
        "columns": ["system", "losses, old order of additions", "samples, likewise", "losses as it is"],
        "rows": [[line["system"], *(f"{line[key]:.1e}" for key in ("loss", "sample", "own"))] for line in lines],
    }  # fmt: skip
    path = Path(__file__).parents[1] / "docs" / "data" / "trace.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
