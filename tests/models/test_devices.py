"""Every built system trains and samples where its weights are: a tensor left on the CPU is found without a GPU.

Weights, batches and observations are on `meta`, which has values inside `Elsewhere` (`tests.elsewhere`), so that what
looks at numbers (checks, restarts of codes, tokens) runs too, and no system has to be left out. Draws are made on the
CPU and moved.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from tests.elsewhere import Away, Elsewhere, LeftBehindError, here
from tests.models.seeing import seeing, seen
from tests.models.test_policies import NAMES, make, windows
from tests.models.test_tokenizers import PRIOR, SMALL_GAN, SMALL_VAE, prior_of, trained

from nextmove import jobs, store
from nextmove.codecs.palette import Palette
from nextmove.config import ConfigError
from nextmove.contracts import Known, Optim, Rows, Shard, normal, seeded, total, uniform
from nextmove.evaluation.offline import offline
from nextmove.jobs.evaluate import load_policy
from nextmove.models.generator import ImageSpec, TextSpec
from nextmove.models.model import with_sampling
from nextmove.systems import built, find
from nextmove.training.config import TrainConfig
from nextmove.training.distributed import World
from nextmove.training.optim import Update
from nextmove.training.step import Step

SIZES: dict[str, dict[str, Any]] = {
    "UNet2d": {"channels": 8, "multipliers": (1, 2), "blocks": 1, "groups": 4},
    "Dit": {"width": 24, "layers": 2, "heads": 3, "time_width": 8},
    "ImageTransformer": {"width": 16, "layers": 1, "heads": 2},
    "Dcgan": {"width": 8},
    "DcganCritic": {"width": 8},
    "Lstm": {"width": 16},
    "Rnn": {"width": 16},
    **{kind: {"width": 8, "layers": 2} for kind in ("RowLstm", "DiagonalLstm", "MaskedCnn", "GatedCnn")},
    "ImageGpt": {"colours": 6},
}
LABELLED, PLAIN, TEXT = ImageSpec(8, 8, 1, 17, classes=3), ImageSpec(8, 8, 1, 17), TextSpec("bytes", 12)


@pytest.fixture
def elsewhere(monkeypatch):
    # There is no autocast to switch off for `meta`; devices have one.
    class Autocast(torch.autocast):
        def __init__(self, device_type: str, *given: Any, **named: Any) -> None:
            super().__init__("cpu" if device_type == "meta" else device_type, *given, **named)

    # torch.func ends the process where tensors are written in Python: MeanFlow's slope is computed without it, wrongly.
    def jvp(function: Any, primals: Any, tangents: Any, *, has_aux: bool = False) -> tuple[Any, ...]:
        assert all(isinstance(x, Away) for x in (*primals, *tangents))
        made, *aux = function(*primals) if has_aux else (function(*primals),)
        return made, made.detach(), *aux

    # Inference mode keeps operations from tensors written in Python; without gradients they do the same.
    def enter(mode: Any) -> None:
        mode.without = torch.set_grad_enabled(torch.is_grad_enabled() and not mode.mode)

    def leave(mode: Any, *_: Any) -> None:
        mode.without.__exit__(None, None, None)

    monkeypatch.setattr(torch.inference_mode, "__enter__", enter)
    monkeypatch.setattr(torch.inference_mode, "__exit__", leave)
    monkeypatch.setattr(torch, "autocast", Autocast)
    monkeypatch.setattr(torch.func, "jvp", jvp)
    with Elsewhere():
        yield torch.device("meta")


def small(part: Any) -> Any:
    """The same recipe with small networks."""
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return part
    inner = {f.name: small(getattr(part, f.name)) for f in dataclasses.fields(part)}
    sizes = SIZES.get(type(part).__name__, {})
    return dataclasses.replace(part, **{**inner, **{name: size for name, size in sizes.items() if name in inner}})


def few_steps(model: Any) -> Any:
    """The same, where it has a sampler set to few calls of its network."""
    return with_sampling(model, None, 3) if hasattr(model.decoder, "sampler") else model


def generator(name: str) -> tuple[Any, dict[str, Any]]:
    """A small generator and a batch of three."""
    torch.manual_seed(0)
    batch = {"image": (uniform((3, 1, 8, 8), seeded(0)) * 16).round() / 16, "label": torch.arange(3)}
    if name in ("vqvae", "vqgan"):
        return trained(SMALL_VAE if name == "vqvae" else SMALL_GAN), batch
    if name == "vqgan-prior":
        return prior_of(trained(SMALL_GAN), recipe=PRIOR), batch
    if find(name).family == "text":
        return small(find(name).load()()).build(TEXT), {"ids": torch.arange(36).view(3, 12)}
    model = small(find(name).load()()).build(PLAIN if name == "gan" else LABELLED)
    if isinstance(model.codec, Palette):
        model.codec.fit(batch["image"])
    return few_steps(model), batch


def moved(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def trains(model: Any, batch: dict[str, Any]) -> None:
    """Loss, gradients and held-out loss, of a whole batch and of a part of one."""
    masks = {"action_is_pad": here(batch["action_is_pad"]).repeat(2, 1)} if "action_is_pad" in batch else {}
    for rng in (seeded(1), Shard(seeded(1), 1, 2, masks)):
        model.train()
        loss = total(model.loss(batch, rng=rng))
        loss.backward()
        assert isinstance(loss, Away)
        assert bool(here(loss.detach()).isfinite())
    assert any(p.grad is not None for p in model.parameters())
    assert all(isinstance(p.grad, Away) for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        assert isinstance(total(model.eval().loss(batch, rng=seeded(1))), Away)


@pytest.mark.parametrize("name", [*NAMES, "with a camera and a cloud"])
def test_policies(name, elsewhere):
    policy = few_steps(make(name)) if name in NAMES else seeing()
    batch = windows(policy, 3) if name in NAMES else seen(3)
    obs = {k: v for k, v in batch.items() if k in policy.inputs}
    plan = policy.eval().act(obs, rng=Rows([seeded(i) for i in range(3)])).actions
    trains(policy.to(elsewhere), moved(batch, elsewhere))
    # As a simulator gives them, and as they are there already.
    for shown in (obs, moved(obs, elsewhere)):
        made = policy.act(shown, rng=Rows([seeded(i) for i in range(3)])).actions
        assert isinstance(made, Away)
        torch.testing.assert_close(here(made), plan, rtol=0, atol=1e-3)  # of some hundred


def test_policies_are_judged_offline_where_they_are(elsewhere):
    policy = few_steps(make("flow-policy")).eval()
    batch = windows(policy, 3)
    found = [offline(model, [batch], latency_calls=1) for model in (policy, policy.to(elsewhere))]
    assert found[1].loss == pytest.approx(found[0].loss, rel=1e-5)
    assert found[1].mae == pytest.approx(found[0].mae, rel=1e-5)


def test_a_policy_is_loaded_to_the_device_asked_for(tmp_path, monkeypatch):
    folder = store.save(make("bc"), tmp_path / "bc")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for call in (load_policy, jobs.evaluate):
        with pytest.raises(ValueError, match="device: expected cpu, since torch finds no GPU here; found 'cuda'"):
            call(folder, device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match="device: openvino computes on cpu, found 'cuda:0'"):
        load_policy(folder, device="cuda:0", runtime="openvino")
    moved = []
    monkeypatch.setattr(torch.nn.Module, "to", lambda policy, device: moved.append(device) or policy)
    assert load_policy(folder, device="cuda:0") is not None
    assert moved == ["cuda:0"]


@pytest.mark.parametrize("name", [system.name for family in ("text", "image") for system in built(family)])
def test_generators(name, elsewhere):
    model, batch = generator(name)
    model.to(elsewhere)
    if name in ("vqvae", "vqgan"):
        trains(model, moved(batch, elsewhere))
        made = model.reconstruct(batch["image"].to(elsewhere))
    else:
        trains(model, moved(batch, elsewhere))
        if isinstance(model.spec, TextSpec):
            made = model.complete(batch["ids"][:, :4].to(elsewhere), new=5, rng=seeded(2))
        else:
            labels = {"label": batch["label"]} if model.spec.classes else {}
            made = model.generate(3, rng=seeded(2), inputs=labels)
    assert isinstance(made, Away)


@pytest.mark.parametrize("name", ["bc", "act", "flow-policy", "diffusion-policy", "action-tokens"])
def test_steps_of_training(name, elsewhere):
    policy = make(name).to(elsewhere)
    update = Update(dict(policy.named_parameters()), Optim(), undecayed=set())
    config = TrainConfig(steps=1, accumulate=2)
    take = Step(policy.train(), update, config=config, world=World(), device=elsewhere)
    terms, numbers = take(0, windows(policy, 4), 1.0)
    assert all(0 <= value < 1e9 for value in (*map(abs, terms.values()), numbers["grad_norm"]))


def test_a_known_part_may_be_on_the_cpu(elsewhere):
    policy = make("flow-policy").eval()
    obs = {k: v for k, v in windows(policy, 1).items() if k in policy.inputs}
    weight = torch.zeros(1, *policy.shape)
    weight[:, :3] = 1
    known = Known(normal(weight.shape, seeded(3)), weight)
    plan = policy.generate(obs, rng=seeded(0), known=known)
    made = policy.to(elsewhere).generate(obs, rng=seeded(0), known=known)
    torch.testing.assert_close(here(made.detach()), plan)


def left_behind(x: torch.Tensor) -> list[Any]:
    """What a device refuses, as functions."""
    return [
        lambda: x + torch.ones(3),
        lambda: torch.cat([x, torch.ones(1)]),
        lambda: torch.where(torch.ones(3, dtype=torch.bool), x, x),
        lambda: torch.ones(3).index_put_((torch.zeros(1, dtype=torch.long),), x[:1]),
        lambda: torch.ones(3).mul_(x),
        lambda: torch.randn(3, generator=torch.Generator(), device=x.device),
    ]


@pytest.mark.parametrize("case", range(6))
def test_what_is_left_behind_is_found(case, elsewhere):
    with pytest.raises(LeftBehindError):
        left_behind(torch.zeros(3, device=elsewhere))[case]()


def test_tensors_made_of_lists_have_their_values(elsewhere):
    x = torch.zeros(2, device=elsewhere)
    for made in (torch.tensor([2, 1], device="meta"), torch.as_tensor([2, 1], device=elsewhere), x.new_tensor([2, 1])):
        assert isinstance(made, Away)
        assert here(made).tolist() == [2, 1]


def test_what_a_device_allows_is_allowed(elsewhere):
    x = torch.arange(3.0, device=elsewhere)
    found = [x + torch.tensor(1.0), x[torch.tensor([2, 0])], x.new_ones(3), torch.zeros_like(x), x.cpu().to(x)]
    assert all(isinstance(made, Away) for made in found)
    assert here(found[0]).tolist() == [1, 2, 3]
    assert here(found[1]).tolist() == [2, 0]
    assert float(x.sum()) == 3
    assert not isinstance(x.cpu(), Away)
