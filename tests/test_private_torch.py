"""What torch calls private is taken from it in one file, and where a version lacks it the other way gives the same."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import nextmove
from nextmove.contracts import Optim, _torch, normal, seeded
from nextmove.nn import product
from nextmove.training.ema import Ema
from nextmove.training.optim import Update

HOUSE = Path(nextmove.__file__).parent
PRIVATE = re.compile(
    r"torch(\.\w+)*\._[a-z]|torch\._C|torch\.ops\.|forward_ad\._|_register_\w+_hook|distributed_c10d|\b_NormBase\b"
)


def test_only_one_file_reaches_into_torch():
    # Files of weights name what torch made them with; nothing of that name is called.
    elsewhere = [path for path in HOUSE.rglob("*.py") if path.name not in ("_torch.py", "torch_files.py")]
    lines = (
        (path, line) for path in elsewhere for line in path.read_text().splitlines() if "import _torch" not in line
    )
    assert [f"{path}: {line}" for path, line in lines if PRIVATE.search(re.sub(r"\b_torch\.", "", line))] == []


def test_everything_is_there_in_the_version_tested():
    kept = ("_REORDER", "_POINTWISE", "_WRAPPED", "_TANGENTS", "_DISPATCH", "_NORM", "_MULTIPLY", "_LERP", "_COPY")
    assert [name for name in kept if getattr(_torch, name) is None] == []


def weights(*sizes: int) -> list[torch.Tensor]:
    return [normal((size, 3), seeded(size)) for size in sizes]


@pytest.mark.parametrize(
    ("lacking", "change"),
    [
        ("_NORM", lambda xs, others: xs.extend(_torch.norms(others))),
        ("_MULTIPLY", lambda xs, _: _torch.multiply_(xs, 0.3)),
        ("_LERP", lambda xs, others: _torch.lerp_(xs, others, 0.25)),
        ("_COPY", lambda xs, others: _torch.copy_(xs, others)),
    ],
)
def test_tensors_one_by_one_give_the_same(lacking, change, monkeypatch):
    together, apart = weights(2, 5), weights(2, 5)
    change(together, [x + 1 for x in weights(2, 5)])
    monkeypatch.setattr(_torch, lacking, None)
    change(apart, [x + 1 for x in weights(2, 5)])
    torch.testing.assert_close(apart, together)


def test_training_goes_on_without_it(monkeypatch):
    def trained() -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        net = nn.Linear(3, 2)
        update, ema = Update(dict(net.named_parameters()), Optim(clip=0.1, ema=0.9), undecayed=set()), Ema(net, 0.9)
        for step in range(1, 4):
            update.zero()
            net(normal((4, 3), seeded(step))).square().sum().backward()
            update.apply(1.0, float(update.norm()))
            ema.update(step)
        return ema.model.state_dict()

    with_it = trained()
    for name in ("_NORM", "_MULTIPLY", "_LERP"):
        monkeypatch.setattr(_torch, name, None)
    torch.testing.assert_close(trained(), with_it)


@pytest.mark.parametrize("lacking", ["_POINTWISE", "_WRAPPED", "_TANGENTS"])
def test_products_are_torchs_own_where_weights_cannot_be_packed(lacking, monkeypatch):
    layer, x = product.Linear(2048, 1024), normal((1, 2048), seeded(0))
    assert layer.weight.numel() >= product.LEAST
    with torch.no_grad():
        own = layer(x)
        monkeypatch.setattr(_torch, lacking, None)
        before = len(product._copies)
        other = product.Linear(2048, 1024)
        other.load_state_dict(layer.state_dict())
        torch.testing.assert_close(other(x), own, rtol=0, atol=1e-5)
    assert len(product._copies) == before


def test_transforms_are_seen_and_taken_for_granted_where_torch_does_not_say(monkeypatch):
    x, seen = torch.ones(3), []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(_torch.transformed(x))
        return 2 * x

    assert not _torch.transformed(x)
    torch.func.vmap(look)(x)
    torch.func.jvp(look, (x,), (x,))
    assert seen == [True, True]
    monkeypatch.setattr(_torch, "_WRAPPED", None)
    assert _torch.transformed(x)


def test_what_a_version_lacks_is_none():
    assert _torch._lookup("ops.mkldnn._no_such_operator") is None
    assert _torch._lookup("no.such.thing") is None
