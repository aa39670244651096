"""Two towers whose loss compares the rows of a batch; one step's gradients of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.contracts import Optim, Rng, joined, seeded
from nextmove.decoders.contrastive import Contrastive
from nextmove.nn.dropout import Dropout
from nextmove.training import TrainConfig
from nextmove.training.distributed import World
from nextmove.training.optim import Update
from nextmove.training.step import Step

ROWS = 8
PAIRING = {"softmax": Contrastive("softmax"), "sigmoid": Contrastive("sigmoid")}


class Pairing(nn.Module):
    """Two linear towers, with dropout of what they read if asked for."""

    def __init__(self, rule: Contrastive, dropout: float = 0.0) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(3, 5), nn.Linear(4, 5)
        self.dropout = Dropout(dropout)
        self.rule, self.scale, self.bias = rule, nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(-2.0))

    def compared(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Features of unit length."""
        read = {"image": self.image(self.dropout(batch["x"])), "text": self.text(batch["y"])}
        return {name: F.normalize(value, dim=-1) for name, value in read.items()}

    def loss(self, batch: dict[str, Tensor], *, rng: Rng) -> dict[str, Tensor]:
        """One term."""
        found = {name: joined(name, value, rng) for name, value in self.compared(batch).items()}
        return self.rule.loss(self.scale.exp() * found["image"] @ found["text"].mT + self.bias)


def gradients(rule: Contrastive, parts: int = 1, world: World | None = None, dropout: float = 0.0) -> dict[str, Tensor]:
    """Gradients and terms of one step on this process's rows."""
    world = world or World()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Pairing(rule, dropout).double().train()
    update = Update(dict(model.named_parameters()), Optim(clip=0), undecayed=set())
    config = TrainConfig(steps=1, accumulate=parts, bf16="off")
    step = Step(model, update, config=config, world=world, device=torch.device("cpu"))
    share = slice(world.rank * ROWS // world.size, (world.rank + 1) * ROWS // world.size)
    terms, _ = step(3, {name: value[share] for name, value in whole().items()}, 0.0)
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return found | {f"term/{name}": torch.tensor(value, dtype=torch.float64) for name, value in terms.items()}


def whole() -> dict[str, Tensor]:
    """A batch."""
    rng = seeded(1)
    shapes = {"x": (ROWS, 3), "y": (ROWS, 4)}
    return {name: torch.randn(shape, generator=rng, dtype=torch.float64) for name, shape in shapes.items()}
