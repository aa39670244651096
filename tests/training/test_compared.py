"""A loss that compares the rows of a batch does not depend on how the batch is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tests.training.pairing import PAIRING, ROWS, Pairing, gradients, whole
from torch import Tensor

from nextmove.contracts import Optim, Rng, Shard, joined, seeded
from nextmove.decoders.contrastive import Contrastive
from nextmove.training import TrainConfig
from nextmove.training.distributed import World
from nextmove.training.optim import Update
from nextmove.training.step import Step


@dataclass(frozen=True)
class Told(World):
    """A process that gets what the others would send."""

    def gather(self, rows: Tensor) -> Tensor:
        """The features of the whole batch, whose own part must be these rows."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            found = Pairing(Contrastive()).double().compared(whole())
        first = self.rank * ROWS // self.size
        for value in found.values():
            if torch.allclose(value[first : first + len(rows)], rows, atol=1e-12):
                return value.detach()
        raise AssertionError("features that are none of the batch's")

    def sum(self, values: Any) -> list[float]:
        """As if all had the same."""
        return [value * self.size for value in values]

    def mean_gradients(self, parameters: Any) -> None:
        """Left to the caller."""


@pytest.mark.parametrize("rule", PAIRING.values(), ids=PAIRING)
def test_cut_batches_give_the_gradients_of_the_whole(rule: Contrastive) -> None:
    expected = gradients(rule)
    found = {"2 parts": gradients(rule, 2), "4 parts": gradients(rule, 4)}
    for parts in (1, 2):
        both = [gradients(rule, parts, Told(rank, 2)) for rank in (0, 1)]
        found[f"2 processes of {parts}"] = {name: (both[0][name] + both[1][name]) / 2 for name in both[0]}
    for case, got in found.items():
        assert got.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(got[name], value, rtol=1e-9, atol=1e-11, msg=f"{case}: {name}")


def test_features_of_a_part_are_the_same_in_both_passes() -> None:
    # With dropout the two passes of a part must drop the same, or the loss compares features that never were.
    model, seen = Pairing(Contrastive(), dropout=0.5).double().train(), []

    def loss(batch: dict[str, Tensor], *, rng: Rng) -> dict[str, Tensor]:
        assert isinstance(rng, Shard)
        own = model.compared(batch)["image"]
        seen.append(bool(torch.equal(rng.rows(rng.features["image"]), own)))
        return {"loss": own.sum()}

    update = Update(dict(model.named_parameters()), Optim(clip=0), undecayed=set())
    config = TrainConfig(steps=1, accumulate=2, bf16="off")
    step = Step(model, update, config=config, world=World(), device=torch.device("cpu"))
    step.loss = loss
    step(0, whole(), 0.0)
    assert seen == [True, True]


def test_a_model_without_features_of_the_whole_batch_is_refused() -> None:
    shard = Shard(seeded(0), 0, 2)
    with pytest.raises(ValueError, match=r"image: expected features of the whole batch .* has `compared\(batch\)`"):
        joined("image", torch.zeros(2, 3), shard)
