"""Today's build beside an older commit, in turns: training, planning, writing, denoising, the command's help.

    python benchmarks/not_slower.py [CASE ...] [--old a44a6f4] [--rounds 9] [--write]

Each side is a process with its own commit's package that does one repetition of a case for each line it is sent, on one
thread (`bf16 ...` on two); what a repetition takes is the processor's time, of the help the clock's. One JSON line a
case: milliseconds of each side (medians), and how many times as fast today's is (the median of paired ratios). The
older side of `bf16 ...` trains in float32, its default. `--write` puts the table into docs/data/not-slower.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import argparse
import inspect
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from trace import checked_out, policy, text
from typing import Any

from turns import Peer, answer, ratio, seconds, turns

POLICIES = {"Flow Policy": "flow-policy", "Diffusion Policy (U-Net)": "diffusion-policy", "ACT": "act"}
PREFIX, WRITTEN, SUFFIX, CALLS = 512, 32, 50, 10
BATCH = {"flow-policy": 256, "diffusion-policy": 64, "act": 64}
CASES = (
    *(f"train {name}" for name in (*POLICIES, "GPT")),
    *(f"plan {name}" for name in POLICIES),
    "write GPT",
    *(f"write {WRITTEN} ids behind {PREFIX}, {rows}" for rows in ("1 row", "8 rows")),
    f"{CALLS} denoising calls behind {PREFIX}",
    "bf16 U-Net of 65.6 M",
    "bf16 ACT of 40.2 M",
    "help",
)
HELP = "import sys; sys.argv[0] = 'nextmove'; from nextmove.cli.main import main; sys.exit(main())"


def spent(act: Callable[[], object]) -> Callable[[], float]:
    """The processor's seconds of a repetition."""

    def once() -> float:
        began = time.process_time()
        act()
        return time.process_time() - began

    return once


@cache
def repetition(case: str) -> Callable[[], float]:
    """One repetition of a case, in this process."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(2 if case.startswith("bf16") else 1)
    kind, name = case.split(" ", 1)
    if kind == "bf16":
        return published(name)
    if kind == "train":
        return training(*(text("gpt") if name == "GPT" else policy(POLICIES[name])), BATCH.get(POLICIES.get(name, "")))
    if kind == "plan":
        return planning(*policy(POLICIES[name]), 10 if "Flow" in name else 20 if name == "ACT" else 1)
    if kind == "write":
        return writing(name)
    return denoising()


def training(model: Any, batch: Any, rows: int | None) -> Callable[[], float]:
    """Five steps of AdamW."""
    import torch

    from nextmove.contracts import seeded, total

    data = batch(0) if rows is None else batch(0, rows)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def steps() -> None:
        model.train()
        for step in range(5):
            optimiser.zero_grad()
            total(model.loss(data, rng=seeded(step))).backward()
            optimiser.step()

    return spent(steps)


def planning(model: Any, batch: Any, times: int) -> Callable[[], float]:
    """So many plans of one robot."""
    from nextmove.contracts import Rows, seeded

    data = {k: v[:1] for k, v in batch(0).items() if k.startswith("observation.")}
    model.eval()
    return spent(lambda: [model.act(data, rng=Rows([seeded(i)])) for i in range(times)])


def writing(name: str) -> Callable[[], float]:
    """Ids of the recipe's GPT, or behind a prefix: one row by one of GPT-2's small size, 8 by one 384 wide."""
    import torch

    from nextmove.contracts import Context, ContextSpec, Known, seeded
    from nextmove.decoders import Autoregressive
    from nextmove.nn import Gpt

    if name == "GPT":
        model, _ = text("gpt")
        decoder, rows, length, known = model.decoder.eval(), 1, model.shape[0], None
    else:
        rows, length = int(name.split()[-2]), PREFIX + WRITTEN
        size = (768, 12, 12) if rows == 1 else (384, 6, 6)
        decoder = Autoregressive(trunk=Gpt(*size), classes=512).build(shape=(length + 1,), context=ContextSpec())
        decoder.eval()
        ids = torch.randint(512, (rows, length), generator=seeded(1))
        known = Known(ids, (torch.arange(length) < PREFIX).float().expand(rows, -1))
    return spent(lambda: decoder.sample(Context.empty(rows), shape=(length,), rng=seeded(0), known=known))


def denoising() -> Callable[[], float]:
    """Calls of 50 tokens each behind what a stream of 8 layers, 512 wide, has read."""
    import torch

    from nextmove.contracts import Context, ContextSpec
    from nextmove.nn import Gpt, feedforward
    from nextmove.nn.attention import Heads
    from nextmove.nn.norm import RmsNorm

    # The older commit's name.
    gated = getattr(feedforward, "GatedMlp", None) or feedforward.Gated
    heads = Heads(8, 2, bias=False, out_bias=False)
    config = Gpt(512, 8, heads, positions="rotary", norm=RmsNorm(), feedforward=gated(), head="plain")
    net = config.build_tokens(length=PREFIX + SUFFIX, classes=64, context=ContextSpec()).eval()
    ctx, ids = Context.empty(1), torch.randint(64, (1, PREFIX + SUFFIX))
    with torch.no_grad():
        _, memory = net.read(ids[:, :PREFIX], ctx)

    @torch.no_grad()
    def calls() -> None:
        for _ in range(CALLS):
            # The older commit grows what has been read, and copies it wherever another call has written behind it.
            net.read(ids[:, PREFIX:], ctx, memory.room(SUFFIX) if hasattr(memory, "room") else memory)

    return spent(calls)


def published(name: str) -> Callable[[], float]:
    """One training step at the published sizes, with everything the training loop does; wall clock."""
    import torch

    from nextmove.contracts import normal, seeded
    from nextmove.models.policy import PolicySpec
    from nextmove.models.policy.act import Act
    from nextmove.models.policy.diffusion_policy import DiffusionPolicy
    from nextmove.training.config import TrainConfig
    from nextmove.training.distributed import World
    from nextmove.training.ema import Ema
    from nextmove.training.optim import Update, trainable, undecayed
    from nextmove.training.step import Step

    widths = {"observation.state": 2, "observation.environment_state": 16}
    recipe: Any = (DiffusionPolicy if "U-Net" in name else Act).published()
    model = recipe.build(getattr(PolicySpec, "of_states", PolicySpec)(widths, 2, 10.0))
    rows = recipe.optim.batch
    data = {f: normal((rows, model.n_obs_steps, w), seeded(i)) for i, (f, w) in enumerate(widths.items())}
    data["action"] = normal((rows, model.horizon, 2), seeded(9)).clamp(-1, 1)
    data["action_is_pad"] = torch.zeros(rows, model.horizon, dtype=torch.bool)
    model.fit([data])
    model.train()
    update, ema = Update(trainable(model), recipe.optim, undecayed=undecayed(model)), Ema(model, recipe.optim.ema)
    # Today a step takes whether to compute in bf16; the older side decides by its config, float32 by default.
    given: dict[str, Any] = {"mixed": True} if "mixed" in inspect.signature(Step.__init__).parameters else {}
    config = TrainConfig(steps=9, bf16="off", threads=2)
    step = Step(model, update, config=config, world=World(), device=torch.device("cpu"), **given)

    def once() -> None:
        step(0, data, 1.0)
        ema.update(1)

    return seconds(once)


def measured(case: str, sides: dict[str, Peer], rounds: int, sources: dict[str, Path]) -> dict[str, Any]:
    """The line of one case."""
    if case == "help":
        command = [sys.executable, "-c", HELP, "--help"]
        acts = {
            side: seconds(
                partial(
                    subprocess.run, command, check=True, capture_output=True,
                    env={**os.environ, "PYTHONPATH": str(source / "src")},
                )
            )
            for side, source in sources.items()
        }  # fmt: skip
    else:
        acts = {side: partial(peer, "measure", case=case) for side, peer in sides.items()}
    found = turns(acts, rounds if not case.startswith("bf16") else max(3, rounds // 3))
    ms = {side: round(1000 * statistics.median(times), 2) for side, times in found.items()}
    return {"case": case, **ms, "ratio": round(ratio(found["old"], found["new"]), 3)}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="parts of their names; default: all")
    parser.add_argument("--old", default="a44a6f4")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        answer({"measure": lambda case: repetition(case)()})
        return
    chosen = [case for case in CASES if not options.cases or any(part in case for part in options.cases)]
    lines = []
    with checked_out(options.old) as old:
        sources = {"old": old, "new": Path(__file__).parents[1]}
        command = [sys.executable, __file__, "--child"]
        sides = {
            side: Peer(["env", f"PYTHONPATH={source / 'src'}", *command]) for side, source in sources.items()
        }  # fmt: skip
        for case in chosen:
            lines.append(measured(case, sides, options.rounds, sources))
            print(json.dumps(lines[-1]), flush=True)
        for side in sides.values():
            side.__exit__()
    if options.write:
        write(lines, options.old)


def write(lines: list[dict[str, Any]], old: str) -> None:
    """The table of docs/results.md."""
    from nextmove.evaluation.machine import machine

    content = {
        "title": f"Speed beside {old}",
        "command": "python benchmarks/not_slower.py --write",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "note": f"Both sides in turns in one sitting: milliseconds of a repetition (processor time on one thread; of "
        f"`bf16`, two threads, and of the help the clock's), and the median of paired ratios, above 1 where today's is "
        f"faster. `bf16`: one training step in bf16 beside {old}'s default, float32. Writing behind {PREFIX} ids reads "
        f"them first; one row is GPT-2's small size (12 layers, 768 wide), 8 rows 6 layers, 384 wide. "
        f"{CALLS} denoising calls of {SUFFIX} tokens: {old} copies what it has read at every call.",
        "columns": ["what", f"{old}, ms", "today, ms", "times as fast"],
        "rows": [[line["case"], f"{line['old']:g}", f"{line['new']:g}", f"{line['ratio']:.2f}"] for line in lines],
    }
    path = Path(__file__).parents[1] / "docs" / "data" / "not-slower.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
