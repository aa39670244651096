"""Adapters: their formula, where they go, that only they learn, merging, and files that belong to one model."""

import pytest
import torch
from torch import nn

from nextmove.config import ConfigError
from nextmove.contracts import Context, ContextSpec
from nextmove.models.adapters import load, save
from nextmove.nn.attention import Attention, Heads
from nextmove.nn.feedforward import GatedMlp
from nextmove.nn.gpt import Gpt
from nextmove.nn.lora import Lora, adapt, merge, places, remove, state
from nextmove.nn.norm import RmsNorm

IDS, NONE = torch.arange(14).view(2, 7), Context.empty(2)


def language(seed=0, **options):
    torch.manual_seed(seed)
    heads = Heads(4, 2, bias=False, out_bias=False)
    config = Gpt(32, 2, heads, positions="rotary", norm=RmsNorm(), feedforward=GatedMlp(48), head="plain", **options)
    return config.build_tokens(length=16, classes=20, context=ContextSpec())


def filled(model):
    """Adapters that no longer are 0."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in state(model).values():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3)


@pytest.mark.parametrize("kind", ["ours", "torch", "activated", "attention", "apart"])
def test_an_adapter_adds_the_product_of_its_matrices(kind):
    torch.manual_seed(0)
    x = torch.randn(3, 5, 16)
    layers = {
        "ours": lambda: nn.Sequential(GatedMlp(24).build(16).down, nn.Identity()),
        "torch": lambda: nn.Sequential(nn.Linear(24, 8), nn.Identity()),
        "activated": lambda: GatedMlp(24).build(16),
        "attention": lambda: Attention(16, Heads(4, 2)),
        "apart": lambda: Attention(16, 4, source=24),
    }
    model = layers[kind]()
    other = torch.randn(3, 6, 24)
    inputs = {"ours": (other,), "torch": (other,), "attention": (x, x, x), "apart": (x, other, other)}.get(kind, (x,))
    before = model(*inputs)
    names = adapt(model, Lora(rank=2, alpha=6.0))
    assert len(names) == {"ours": 1, "torch": 1, "activated": 2, "attention": 4, "apart": 4}[kind]
    first = model(*inputs)
    assert torch.equal(first[0], before[0])
    filled(model)
    adapted = model(*inputs)[0]
    expected = {place.name: place.weight.detach().clone() for place in places(model)}
    for place in places(model):
        assert torch.allclose(place.adapter.delta().float(), 3.0 * place.adapter.up @ place.adapter.down)
        expected[place.name] = expected[place.name] + 3.0 * place.adapter.up @ place.adapter.down
    assert (adapted - before[0]).abs().max() > 1e-2
    assert merge(model) == names
    torch.testing.assert_close(model(*inputs)[0], adapted, atol=1e-5, rtol=1e-5)
    for place in places(model):
        torch.testing.assert_close(place.weight, expected[place.name], atol=1e-6, rtol=0)
    assert not state(model)
    assert not any(module._forward_hooks for module in model.modules())


def test_patterns_name_layers_and_only_adapters_learn():
    net = language()
    nn.init.normal_(net.head.weight)
    untouched = {name: value.clone() for name, value in net.state_dict().items()}
    names = adapt(net, Lora(("*.attention.q_proj", "*.blocks.1.feedforward.*"), rank=3))
    assert names == [
        "stream.blocks.0.attention.q_proj",
        "stream.blocks.1.attention.q_proj",
        "stream.blocks.1.feedforward.up",
        "stream.blocks.1.feedforward.down",
    ]
    trained = [p for p in net.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == sum(v.numel() for v in state(net).values())
    assert {id(p) for p in trained} == {id(v) for v in state(net).values()}
    optimiser = torch.optim.Adam(trained, 0.05)
    losses = []
    for _ in range(60):
        logits = net(IDS, NONE)[0]
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(net.state_dict()[name], value) for name, value in untouched.items())
    with pytest.raises(ValueError, match="expected one without adapters, found one at stream"):
        adapt(net, Lora())
    assert remove(net) == names
    assert net.state_dict().keys() == untouched.keys()


def test_a_pattern_that_names_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"no linear layer is called '\*.attention.out'; there are stream.*out_proj"):
        adapt(language(), Lora(("*.attention.out",)))
    for wrong in ({"rank": 0}, {"names": ()}):
        with pytest.raises(ValueError, match="expected at least"):
            Lora(**wrong)


def test_adapters_are_saved_apart_and_belong_to_their_model(tmp_path):
    net, path, config = language(), tmp_path / "adapter.safetensors", Lora(("*.attention.*",), rank=2)
    with pytest.raises(ValueError, match="expected one with adapters"):
        save(net, path, config)
    adapt(net, config)
    filled(net)
    expected = net(IDS, NONE)[0]
    save(net, path, config)
    assert path.stat().st_size < 0.5 * sum(p.nbytes for p in net.parameters())
    again = language()
    assert load(again, path) == config
    assert torch.equal(again(IDS, NONE)[0], expected)
    with pytest.raises(ConfigError, match=r"expected the model of checksum .*, whose adapters they are, found"):
        load(language(seed=1), path)
    merge(again)
    with pytest.raises(ConfigError, match="whose adapters they are"):
        load(again, path)


def test_files_of_something_else_are_refused(tmp_path):
    from nextmove.weights import write

    path = tmp_path / "weights.safetensors"
    write(path, {"a": torch.zeros(2)})
    with pytest.raises(ConfigError, match="expected adapters, with lora and base in the metadata"):
        load(language(), path)
    with pytest.raises(FileNotFoundError):
        load(language(), tmp_path / "none.safetensors")


def test_dropout_of_adapters_is_off_in_evaluation():
    net = language()
    adapt(net, Lora(rank=2, dropout=0.5))
    filled(net)
    torch.manual_seed(0)
    assert not torch.equal(net.train()(IDS, NONE)[0], net(IDS, NONE)[0])
    net.eval()
    assert torch.equal(net(IDS, NONE)[0], net(IDS, NONE)[0])
