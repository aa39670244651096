"""Every network of a model can be computed elsewhere: encoders with cameras, networks that read a prefix, in each
precision; programs are kept between processes, and two processes do each other no harm."""

import copy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tests.models.seeing import seeing, seen
from tests.models.test_policies import NAMES, make, windows
from torch import nn

from nextmove.config import ConfigError
from nextmove.contracts import Context, ContextSpec, KeyValue, Memory, MemorySpec, Rows, normal, seeded
from nextmove.nn import Expert
from nextmove.nn.attention import Heads
from nextmove.nn.block import Block
from nextmove.nn.feedforward import GatedMlp
from nextmove.nn.norm import RmsNorm
from nextmove.nn.resnet import ResNet
from nextmove.nn.rope import Rotary
from nextmove.nn.stream import Stream
from nextmove.runtime import calibrate, compiled, difference, int8, kept, openvino, program
from nextmove.runtime.fingerprint import fingerprint
from nextmove.runtime.int8 import rounding
from nextmove.runtime.openvino import ROWS, Compiled
from nextmove.runtime.tree import apart, read, together, written

PREFIX = MemorySpec(layers=2, n_kv_heads=1, head_dim=8)


def observed(policy, count=1):
    batch = seen(count) if "observation.cloud" in policy.inputs else windows(policy, count)
    return {name: value for name, value in batch.items() if name.startswith("observation") or name == "task"}


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Nothing is kept yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "nextmove" / "programs"


@pytest.fixture
def conversions(monkeypatch):
    """How often a network was exported."""
    seen, convert = [], program.converted
    monkeypatch.setattr(program, "converted", lambda *given: seen.append(given[0]) or convert(*given))
    return seen


def expert() -> tuple[nn.Module, tuple]:
    """A small action expert and what it is called with."""
    torch.manual_seed(0)
    config = Expert(width=16, heads=2, joint_every=1)
    net = config.build(shape=(4, 2), out=2, times=1, context=ContextSpec(vector=3, memory=PREFIX)).eval()
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.3)  # gates begin at zero
    size = 40
    layers = tuple(KeyValue(*(normal((1, 1, size, 8), seeded(i, j)) for j in range(2))) for i in range(2))
    mask = torch.arange(size)[None] < size - 5
    memory = Memory(layers, mask, mask.sum(1))
    ctx = Context(1, vector=normal((1, 3), seeded(3)), memory=memory)
    return net, (normal((1, 4, 2), seeded(4)), torch.full((1, 1), 0.3), ctx)


def test_an_encoder_with_a_camera_is_computed_too():
    policy = seeing(backbone=ResNet()).eval()
    other = compiled(copy.deepcopy(policy))
    plan = policy.act(observed(policy), rng=seeded(0)).actions
    torch.testing.assert_close(other.act(observed(policy), rng=seeded(0)).actions, plan, rtol=0, atol=1e-4)
    assert {name: len(network._ready) for name, network in other.networks().items()} == {"encoder": 1, "step": 1}
    assert other.inputs == policy.inputs
    assert other.encoder.spec == policy.encoder.spec
    # Training goes through the encoder itself, with its noise and crops.
    losses = [p.train().loss(seen(3), rng=seeded(1)) for p in (policy, other)]
    torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=0)


def test_images_that_are_resized_are_resized_before_it():
    policy = seeing(resize=(40, 36)).eval()
    plan = policy.act(observed(policy), rng=seeded(0)).actions
    other = compiled(copy.deepcopy(policy)).act(observed(policy), rng=seeded(0)).actions
    torch.testing.assert_close(other, plan, rtol=0, atol=1e-4)


def test_an_encoder_that_was_loaded_plans_at_once():
    policy, blank = seeing().eval(), seeing(fitted=False).eval()
    loaded = seeing(fitted=False).eval()
    loaded.load_state_dict(policy.state_dict())
    plan = policy.act(observed(policy), rng=seeded(0)).actions
    other = compiled(loaded).act(observed(policy), rng=seeded(0)).actions
    torch.testing.assert_close(other, plan, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="statistics are absent; fit them or load them first"):
        compiled(blank).act(observed(policy), rng=seeded(0))


def test_an_encoder_that_only_scales_stays():
    assert not isinstance(compiled(make("bc")).encoder, Compiled)


def test_a_network_that_reads_a_prefix_looks_at_it_once():
    net, (x, t, ctx) = expert()
    fast = Compiled(net)
    with torch.no_grad():
        want = net(x, t, ctx)
        torch.testing.assert_close(fast(x, t, ctx), want, rtol=0, atol=1e-5)
        assert len(fast._ready) == 1
        assert len(fast._prefix) == 4
        torch.testing.assert_close(fast(2 * x, t, ctx), net(2 * x, t, ctx), rtol=0, atol=1e-5)
        assert len(fast._ready) == 1
        # Another prefix of the same shape, and one that holds numbers that are none.
        for change in (lambda part: 1 + 3 * part, lambda part: torch.full_like(part, torch.nan)):
            other = ctx.replace(memory=ctx.memory.map(lambda x, change=change: change(x) if x.dim() == 4 else x))
            torch.testing.assert_close(fast(x, t, other), net(x, t, other), rtol=0, atol=1e-5, equal_nan=True)
            assert not torch.allclose(fast(x, t, other), want, rtol=0, atol=1e-2)
        del other
        assert len(fast._ready) == 1
        assert len(fast._prefix) == 4  # what is gone is forgotten


@pytest.mark.parametrize(("precision", "bound"), [("bf16", 0.3), ("int8", 0.15)])
def test_less_precision_is_measured_in_plans(precision, bound, monkeypatch):
    monkeypatch.setattr(int8, "LEAST", 1)
    if precision == "bf16" and "BF16" not in program.core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(ConfigError, match="precision: expected float32 or int8, found bf16"):
            compiled(make("flow-policy"), precision)
        return
    policy = make("flow-policy").eval()
    other = compiled(copy.deepcopy(policy), precision)
    shown = [{k: v[i : i + 1] for k, v in observed(policy, 8).items()} for i in range(8)]
    found = difference(other, policy, shown)
    assert found.plans == 8
    assert 0 < found.rms_share <= found.largest_share < bound
    assert 0 < found.rms <= found.largest
    assert f"at most {found.largest:.3g}" in str(found)
    same = difference(policy, policy, shown)
    assert (same.largest, same.rms, same.largest_share, same.rms_share) == (0, 0, 0, 0)


def test_products_of_constants_are_left_alone(monkeypatch):
    monkeypatch.setattr(int8, "LEAST", 1)
    policy = make("act").eval()  # its queries are such
    other = compiled(copy.deepcopy(policy), "int8")
    assert difference(other, policy, [observed(policy)]).largest_share < 0.15


def test_what_a_difference_is():
    class Plans:
        def __init__(self, plans):
            self.plans = iter(plans)

        def act(self, obs, *, rng):
            return type("Chunk", (), {"actions": torch.tensor(next(self.plans))[None]})

    # Spread of the reference: 1 in the first dimension, none in the second.
    theirs, mine = [[[0.0, 5.0]], [[2.0, 5.0]]], [[[0.5, 5.0]], [[2.0, 4.0]]]
    found = difference(Plans(mine), Plans(theirs), [{"x": torch.zeros(1)}] * 2)
    assert (found.largest, found.largest_share, found.plans) == (1.0, 0.5, 2)
    assert found.rms == pytest.approx((1.25 / 4) ** 0.5)
    assert found.rms_share == pytest.approx((0.25 / 2) ** 0.5)
    with pytest.raises(ValueError, match="observations: expected at least one"):
        difference(Plans([]), Plans([]), [])


@pytest.mark.parametrize("axis", [0, 1])
def test_rounded_weights_are_the_nearest(axis):
    weight = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    weight[0], weight[:, 0] = 0, 0
    whole, scale = rounding(weight, axis)
    assert whole.dtype == np.int8
    assert scale.shape == ((1, 7) if axis == 0 else (5, 1))
    assert (np.abs(whole * scale - weight) <= scale / 2 * 1.0001).all()
    assert np.abs(whole).max() == 127


def test_a_precision_that_would_round_nothing_is_refused():
    policy = make("flow-policy").eval()
    with pytest.raises(ConfigError, match=r"precision: int8 rounds products of at least 16384 weights, .* have none"):
        compiled(policy, "int8")
    with pytest.raises(ConfigError, match=r"precision: w8a8 rounds products of at least 262144 weights, .* have none"):
        calibrate(policy, [observed(policy)])
    assert not any(isinstance(network, Compiled) for network in policy.networks().values())


def test_precisions_are_named():
    known = "float32, bf16, int8, w8a8"
    with pytest.raises(ConfigError, match=f"precision: expected {known}; found 'int4', did you mean 'int8'"):
        compiled(make("bc"), "int4")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "action-tokens"])
def test_every_policy_plans_the_same_and_its_programs_are_kept(name, programs, conversions):
    policy = make(name).eval()
    obs = observed(policy)
    for other in (compiled(make(name).eval()), compiled(copy.deepcopy(policy))):
        for seed in (0, 1):
            plans = [p.act(obs, rng=Rows([seeded(seed)])).actions for p in (policy, other)]
            torch.testing.assert_close(plans[1], plans[0], rtol=0, atol=1e-4)  # pixels, of some hundred
        decoder = getattr(other.decoder, "inner", other.decoder)
        assert decoder.net._ready
        networks = [network for network in other.networks().values() if isinstance(network, Compiled)]
        assert len(conversions) == len(list(programs.iterdir())) == len(networks)
    many = {k: v * (ROWS + 1) if k == "task" else v.repeat_interleave(ROWS + 1, 0) for k, v in obs.items()}
    plans = [p.act(many, rng=seeded(0)).actions for p in (policy, other)]
    assert plans[0].equal(plans[1])  # its own weights are as they were


def test_an_encoders_answer_is_kept_with_its_form(programs, conversions):
    policies = [compiled(seeing().eval()) for _ in range(2)]
    plans = [policy.act(observed(policy), rng=seeded(0)).actions for policy in policies]
    assert plans[0].equal(plans[1])
    assert len(conversions) == 2  # the encoder and the step, once


def test_instructions_that_were_read_before_do_not_name_a_program():
    policy = make("bc-z").eval()
    obs, name = observed(policy), fingerprint(policy.encoder)
    assert name is not None
    for text in ("push the block", "lift the cube"):
        policy.act({**obs, "task": [text]}, rng=seeded(0))
        assert fingerprint(policy.encoder) == name
    policy.encoder.parts[0].instruction.tokenizer.text += " "
    assert fingerprint(policy.encoder) != name


@pytest.mark.parametrize("what", ["weights", "shape", "threads", "precision", "versions", "processor", "settings"])
def test_another_program_is_another_file(what, programs, conversions, monkeypatch):
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1)).eval(), torch.ones(1, 8)
    with torch.no_grad():
        Compiled(net)(x)
        other = copy.deepcopy(net)
        if what == "weights":
            other[0].weight[0, 0] += 1
        if what == "settings":
            other[1].p = 0.2
        if what == "versions":
            monkeypatch.setattr(program.openvino(), "__version__", "0")
        if what == "processor":
            monkeypatch.setattr(program, "_processor", lambda: "another")
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(threads + (what == "threads"))
            x = torch.ones(1, 1, 8) if what == "shape" else x
            made = Compiled(other, "int8" if what == "precision" else "float32")(x)
            torch.testing.assert_close(made, other(x))
        finally:
            torch.set_num_threads(threads)
    assert len(conversions) == len(list(programs.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "not a program"])
def test_a_damaged_program_is_made_anew(damage, programs, conversions):
    net, x = nn.Linear(8, 8).eval(), torch.ones(1, 8)
    with torch.no_grad():
        made = Compiled(net)(x)
        (path,) = programs.iterdir()
        content = path.read_bytes()
        if damage == "not a program":
            kept.keep(path.name, written(None), b"something else")
            with pytest.warns(UserWarning, match="cannot be loaded and is made anew"):
                assert Compiled(net)(x).equal(made)
        else:
            changed = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
            path.write_bytes({"cut": content[:-20], "empty": b"", "changed": changed}[damage])
            assert Compiled(net)(x).equal(made)
        assert Compiled(net)(x).equal(made)
    assert len(conversions) == 2  # and a whole one is there again


def test_what_cannot_be_told_apart_is_not_kept(programs):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            return self.layer(x)

    hooked, local = nn.Linear(8, 8), nn.Linear(8, 8)
    hooked.register_forward_hook(lambda *_: None)
    local.function = lambda x: x
    for net in (Own(), hooked, local):
        assert fingerprint(net) is None
        with torch.no_grad():
            Compiled(net.eval())(torch.ones(1, 8))
    assert not programs.exists()


def test_where_nothing_can_be_kept_it_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    net = nn.Linear(8, 8).eval()
    with torch.no_grad(), pytest.warns(UserWarning, match="compiled networks cannot be kept here"):
        torch.testing.assert_close(Compiled(net)(torch.ones(1, 8)), net(torch.ones(1, 8)))


def test_kept_rotations_are_those_that_were_compiled(programs, conversions):
    torch.manual_seed(0)
    block = Block(128, Heads(2, 1, 64, bias=False, out_bias=False), GatedMlp(64), RmsNorm())
    net, x = Stream([block] * 2, rotary=Rotary()).eval(), torch.randn(1, 192, 128)
    valid = torch.arange(192)[None] < 177
    with torch.no_grad():
        wanted = net(x, valid=valid)[1].layers
        for _ in range(4):
            found = Compiled(copy.deepcopy(net))(x, valid=valid)[1].layers
            for own, layer in zip(found, wanted, strict=True):
                torch.testing.assert_close(own.keys[:, :, :177], layer.keys[:, :, :177])
    assert len(conversions) == 1


def test_the_longest_unused_go_first(programs, monkeypatch):
    monkeypatch.setattr(kept, "MOST", 2 * (kept.ALIGNED + 32 + 100))
    for name in "abc":
        kept.keep(name, None, bytes(100))
        if name == "b":
            kept.take("a")  # used since
    assert sorted(path.name for path in programs.iterdir()) == ["a", "c"]


PROCESS = """
import torch
from nextmove.runtime.openvino import Compiled
torch.manual_seed(0)
net = torch.nn.Linear(8, 8).eval()
with torch.no_grad():
    print(Compiled(net)(torch.ones(1, 8)).tolist())
"""


def test_two_processes_at_once(programs):
    def start(_):
        return subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(start, range(2))
    assert first == second == start(0)
    assert len(list(programs.iterdir())) == 1


def test_few_programs_are_in_memory(monkeypatch):
    monkeypatch.setattr(openvino, "FORMS", 2)
    net = nn.Linear(8, 8).eval()
    fast = Compiled(net)
    with torch.no_grad():
        for length in range(1, 5):
            fast(torch.ones(1, length, 8))
    assert len(fast._ready) == 2


def test_a_network_that_cannot_be_computed_is_named():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return torch.tensor(np.linalg.norm(x.numpy())) * self.weight

    with torch.no_grad(), pytest.raises(ConfigError, match=r"runtime: openvino cannot compute Odd: .*; take runtime"):
        Compiled(Odd().eval())(torch.ones(1, 3))


def test_arguments_come_apart_and_together():
    _, (x, t, ctx) = expert()
    tensors = []
    form = apart(((x, t, ctx, torch.zeros(1, 0)), {"task": ["push"], "batch": 3, "rng": None}), tensors)
    assert len(tensors) == 9
    again = []
    assert apart(together(read(written(form)), tensors), again) == form == read(written(form))
    assert all(mine is theirs for mine, theirs in zip(again, tensors, strict=True))
    with pytest.raises(TypeError, match="found Generator"):
        apart((seeded(0),), [])
