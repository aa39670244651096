"""Why generate: demonstrations pass an obstacle left or right, and regression drives into it.

    python examples/two_modes.py [STEPS] [PICTURE]

Trains one small network under each generative rule on the same paths, prints how many drawn paths avoid the obstacle
and how they split, and draws them.
"""

import sys
from typing import Any

import torch

from nextmove.contracts import Context, ContextSpec, normal, seeded, total, uniform
from nextmove.decoders import Consistency, Diffusion, Flow, MeanFlow, Mixture, Regression
from nextmove.nn import Mlp

H = 8


def paths(count: int, seed: int) -> torch.Tensor:
    """(count, H, 2) demonstrated paths from (-1, 0) to (1, 0), half of them above the obstacle at the origin."""
    along = torch.linspace(-1, 1, H)
    side = torch.where(uniform((count, 1), seeded(seed)) < 0.5, -1.0, 1.0)
    across = side * (1 - along**2) * (0.6 + 0.05 * normal((count, 1), seeded(seed, 1)))
    return torch.stack([along.expand(count, H), across], -1)


def learn(rule: Any, steps: int) -> torch.Tensor:
    """Paths drawn after training, (200, H, 2)."""
    torch.manual_seed(0)
    decoder = rule.build(shape=(H, 2), context=ContextSpec(vector=1))
    optim = torch.optim.AdamW(decoder.parameters(), 2e-3)
    for step in range(steps):
        context = Context(256, vector=torch.zeros(256, 1))
        loss = total(decoder.loss(context, paths(256, step), weight=None, rng=seeded(step, 2)))
        optim.zero_grad()
        loss.backward()
        optim.step()
    context = Context(200, vector=torch.zeros(200, 1))
    with torch.no_grad():
        return decoder.eval().sample(context, shape=(H, 2), rng=seeded(0))


def draw(drawn: dict[str, torch.Tensor], picture: str) -> None:
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    figure = Figure(figsize=(2.2 * len(drawn), 2.3), layout="constrained")
    for axes, (name, found) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
        axes.plot(found[:60, :, 0].T, found[:60, :, 1].T, color="#2a6fdb", alpha=0.25, linewidth=1)
        axes.add_patch(Circle((0, 0), 0.3, color="#d1495b"))
        axes.set(title=name, xlim=(-1.1, 1.1), ylim=(-1, 1), xticks=[], yticks=[], aspect="equal")
    figure.savefig(picture, dpi=110)


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    trunk = Mlp(width=128, depth=2, time_width=32)
    rules = {
        "regression": Regression(trunk=trunk, loss="mse"),
        "mixture": Mixture(trunk=trunk, min_std=0.1),
        "diffusion": Diffusion(trunk=trunk),
        "flow": Flow(trunk=trunk),
        "consistency": Consistency(trunk=trunk),
        "MeanFlow": MeanFlow(trunk=trunk),
    }
    drawn = {name: learn(rule, steps) for name, rule in rules.items()}
    for name, found in drawn.items():
        free = (found.norm(dim=-1) > 0.3).all(1)
        above = (found[:, H // 2, 1] > 0).float().mean()
        print(f"{name:12} avoids the obstacle {free.float().mean():4.0%}   above {above:4.0%}")
    if len(sys.argv) > 2:
        draw(drawn, sys.argv[2])


if __name__ == "__main__":
    main()
