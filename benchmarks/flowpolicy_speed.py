"""FlowPolicy's network at its published size beside its authors' own, with the same weights.

    python benchmarks/flowpolicy_speed.py AUTHORS/FlowPolicy    # a folder of their repository; needs einops, termcolor
    python benchmarks/flowpolicy_speed.py AUTHORS/FlowPolicy --rounds 3 --name ""    # to try it

One call of the U-Net that names a chunk's velocity, most of a plan, is made by either side in turns: for one robot,
and, with its gradients, for a batch of training. A chunk has four steps, so the U-Net's deepest level has one and its
convolutions of five taps meet the zeros around it with four; ours leaves them out. The table goes to
docs/data/NAME.json, from where `scripts/results.py write` takes it.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kept_table import keep
from nextmove import weights
from nextmove.contracts import Context, seeded
from nextmove.interop.flowpolicy import FlowPolicyConfig, build, foreign
from turns import ratio, seconds, turns

CONFIG = FlowPolicyConfig(agent_pos_dim=9, action_dim=4)
SEEN = CONFIG.n_obs_steps * (CONFIG.encoder_output_dim + 64)
BATCH = 64
COLUMNS = ["a call", "ms, authors'", "ms, nextmove", "x", "largest difference", "of values up to"]


def theirs(folder: Path) -> nn.Module:
    """The authors' U-Net with weights of its own drawing."""
    sys.path.insert(0, str(folder))
    kind: Any = importlib.import_module("flow_policy_3d.model.flow.conditional_unet1d").ConditionalUnet1D
    torch.manual_seed(0)
    net: nn.Module = kind(
        CONFIG.action_dim, global_cond_dim=SEEN, diffusion_step_embed_dim=CONFIG.diffusion_step_embed_dim,
        down_dims=list(CONFIG.down_dims), kernel_size=CONFIG.kernel_size, n_groups=CONFIG.n_groups,
    )  # fmt: skip
    return net


def ours(peer: nn.Module) -> nn.Module:
    """Our U-Net with the weights of theirs."""
    with weights.without_storage():
        policy = build(CONFIG)
    net: nn.Module = policy.networks()["step"]
    names = {name: foreign(f"decoder.net.{name}") for name in net.state_dict()}
    found = peer.state_dict()
    net.to_empty(device="cpu").load_state_dict({name: found[str(theirs)[6:]] for name, theirs in names.items()})
    return net


def calls(peer: nn.Module, net: nn.Module, rows: int) -> dict[str, Any]:
    """A call of either for so many robots, by what its network is: () -> velocity (rows, H, A)."""
    rng = seeded(rows)
    x = torch.randn(rows, CONFIG.horizon, CONFIG.action_dim, generator=rng)
    seen, t = torch.randn(rows, SEEN, generator=rng), 99 * torch.rand(rows, generator=rng)
    return {
        "authors'": partial(peer, x, t, global_cond=seen),
        "nextmove": partial(net, x, t[:, None], Context(rows, vector=seen)),
    }


def learnt(call: Any) -> None:
    """A call and its gradients."""
    call.func.zero_grad()
    call().square().sum().backward()


def row(name: str, sides: dict[str, Any], act: Any, rounds: int) -> list[Any]:
    """Both sides of a line of the table, in turns."""
    with torch.no_grad():
        expected, found = (call() for call in sides.values())
    ms = turns({side: seconds(partial(act, call)) for side, call in sides.items()}, rounds)
    medians = [f"{1000 * statistics.median(ms[side]):.0f}" for side in sides]
    apart, most = (expected - found).abs().max().item(), expected.abs().max().item()
    return [name, *medians, f"{ratio(*ms.values()):.2f}", f"{apart:.1e}", f"{most:.1f}"]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", type=Path, help="the folder FlowPolicy of the authors' repository")
    parser.add_argument("--rounds", type=int, default=9, help="of plans; of training a third")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="speed-flowpolicy", help="of the table in docs/data; empty keeps none")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    peer = theirs(given.peer)
    net = ours(peer)
    plan, batch = calls(peer, net, 1), calls(peer, net, BATCH)
    with torch.inference_mode():
        rows = [row("one plan", plan, lambda call: call(), given.rounds)]
    rows.append(row(f"{BATCH} rows with gradients", batch, learnt, max(1, given.rounds // 3)))
    for line in rows:
        print(*(f"{cell!s:>24}" for cell in line))
    if not given.name:
        return
    keep(
        given.name,
        title="FlowPolicy's network at its published size beside its authors' own",
        command="python benchmarks/flowpolicy_speed.py AUTHORS/FlowPolicy",
        note=(
            f"255 M random weights, the same in both, {given.threads} thread, float32; the authors' code is that of "
            "commit ff3b3fe of zql-kk/FlowPolicy, run by the same torch. The sides took turns, a call each; medians, "
            "and the median of paired ratios. A plan is one call of this network and one of the point encoder. Of the "
            "five taps of its convolutions four meet only zeros at the deepest level, whose inputs are one step long, "
            "and two on the level before: ours leaves them out, and multiplies the others as matrices."
        ),
        columns=COLUMNS,
        rows=rows,
    )


if __name__ == "__main__":
    main()
