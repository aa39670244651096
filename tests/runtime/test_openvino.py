"""A compiled network says what the network says, whatever calls it, and steps aside where it cannot."""

import copy
import gc
import pickle
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.golden.materialise import materialise
from tests.models.test_policies import make, windows

from nextmove import store
from nextmove.config import ConfigError
from nextmove.contracts import Context, Known, Rows, seeded
from nextmove.folders import open_folder
from nextmove.jobs.evaluate import load_policy
from nextmove.models.model import with_sampling
from nextmove.runtime.openvino import ROWS, Compiled, compiled
from nextmove.runtime.text import CompiledStream

GOLDEN = Path(__file__).parents[1] / "golden"
MEMORY = "action-tokens"


class Counted(torch.nn.Module):
    """A network that knows how often torch itself ran it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = torch.nn.Linear(3, 3), 0

    def forward(self, x, t, ctx):
        self.calls += not torch.compiler.is_compiling()
        return self.layer(x) * t[:, :, None] + (ctx.vector[:, None] if isinstance(ctx, Context) else 0)


def asked(batch: int) -> tuple[torch.Tensor, torch.Tensor, Context]:
    draw = seeded(batch)
    x, t, vector = (torch.randn(shape, generator=draw) for shape in ((batch, 4, 3), (batch, 1), (batch, 3)))
    return x, t, Context(batch, vector)


@pytest.mark.parametrize("case", ["act_state", "diffusion_state"])
def test_a_foreign_checkpoint_plans_the_same(case, tmp_path):
    loaded = open_folder(materialise(GOLDEN / case, tmp_path)).foreign(fps=10)
    policy = loaded.policy
    sizes = {name: feature.width for name, feature in policy.inputs.items()}
    obs = {name: torch.rand(1, policy.n_obs_steps, width, generator=seeded(3)) for name, width in sizes.items()}
    plan = policy.act(obs, rng=seeded(0)).actions
    torch.testing.assert_close(compiled(policy).act(obs, rng=seeded(0)).actions, plan, rtol=0, atol=1e-5)


def test_it_compiles_once_for_a_shape_and_number_of_threads():
    net = Counted().eval()
    fast, threads = Compiled(net), torch.get_num_threads()
    with torch.no_grad():
        made = [fast(*asked(batch)) for batch in (1, ROWS, 1)]
        assert (net.calls, len(fast._ready)) == (0, 2)
        for answer, batch in zip(made, (1, ROWS, 1), strict=True):
            torch.testing.assert_close(answer, net(*asked(batch)), rtol=0, atol=1e-6)
        try:
            torch.set_num_threads(threads + 1)
            fast(*asked(1))
        finally:
            torch.set_num_threads(threads)
    assert len(fast._ready) == 3


@pytest.mark.parametrize("why", ["rows", "gradient", "training", "float64", "generator", "a number that is none"])
def test_the_network_itself_answers_where_it_must(why):
    net = Counted().eval()
    x, t, ctx = asked(ROWS + 1 if why == "rows" else 1)
    if why == "float64":
        net, x, t, ctx = net.double(), x.double(), t.double(), ctx.map(torch.Tensor.double)
    ctx = seeded(0) if why == "generator" else ctx
    net.train(why == "training")
    if why == "a number that is none":
        x = x.clone().fill_(torch.nan)
    with torch.set_grad_enabled(why == "gradient"):
        answer = Compiled(net)(x, t, ctx)
    assert net.calls == 1
    torch.testing.assert_close(answer, net(x, t, ctx), rtol=0, atol=0, equal_nan=True)
    assert answer.requires_grad == (why == "gradient")


def test_tangents_go_through_the_network():
    net = Counted().eval()
    x, t, ctx = asked(1)
    with torch.no_grad():
        made, slope = torch.func.jvp(lambda x: Compiled(net)(x, t, ctx), (x,), (torch.ones_like(x),))
    torch.testing.assert_close(made, net(x, t, ctx))
    torch.testing.assert_close(slope, (net.layer.weight.sum(1) * t).expand_as(slope))


def test_changed_weights_are_compiled_anew():
    net = Counted().eval()
    fast, other = Compiled(net), Counted()
    with torch.no_grad():
        fast(*asked(1))
        net.layer.weight.mul_(2)
        torch.testing.assert_close(fast(*asked(1)), net(*asked(1)), rtol=0, atol=1e-6)
        fast.load_state_dict(other.state_dict())
        for rows in (1, ROWS):
            torch.testing.assert_close(fast(*asked(rows)), other(*asked(rows)), rtol=0, atol=1e-6)


def test_threads_take_turns():
    policies = [compiled(make(name).eval()) for name in ("flow-policy", "bc")]
    jobs = [
        (p, {k: v for k, v in windows(p, 1).items() if k.startswith("observation") or k == "task"}) for p in policies
    ]

    def plan(job: int) -> Any:
        policy, obs = jobs[job]
        return policy.act(obs, rng=Rows([seeded(job)])).actions

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(plan, [0, 1] * 40))
    want = [plan(0), plan(1)]
    assert all(plan.equal(want[i % 2]) for i, plan in enumerate(found))


@pytest.mark.parametrize("way", ["saved", "pickled", "copied", "loaded"])
def test_it_is_kept_as_the_network_it_stands_for(way, tmp_path):
    policy = make("flow-policy").eval()
    other = compiled(copy.deepcopy(policy))
    obs = {k: v for k, v in windows(policy, 1).items() if k.startswith("observation") or k == "task"}
    plan = other.act(obs, rng=seeded(0)).actions
    assert other.state_dict().keys() == policy.state_dict().keys()
    if way == "saved":
        store.save(other, tmp_path / "model")
        kept = store.load(tmp_path / "model")
    elif way == "loaded":
        kept = compiled(make("flow-policy").eval())
        torch.nn.init.zeros_(next(kept.parameters()))
        kept.load_state_dict(policy.state_dict())
    else:
        kept = pickle.loads(pickle.dumps(other)) if way == "pickled" else copy.deepcopy(other)
    torch.testing.assert_close(kept.act(obs, rng=seeded(0)).actions, plan, rtol=0, atol=1e-4)


def test_signals_arrive_after_compiled_networks_have_gone():
    heard, before = [], signal.getsignal(signal.SIGINT)
    with torch.no_grad():
        fast = [Compiled(Counted().eval()) for _ in range(3)]
        while fast:  # the first compiled goes first
            for network in fast[:2]:
                network(*asked(1))
            del fast[0], network
            gc.collect()
    signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]


def test_another_sampler_and_a_known_part_still_work():
    policy = make("flow-policy").eval()
    other = compiled(copy.deepcopy(policy))
    obs = {k: v for k, v in windows(policy, 1).items() if k.startswith("observation") or k == "task"}
    value = torch.zeros(1, *policy.shape)
    weight = torch.zeros_like(value)
    weight[:, :3] = 1
    for p in (policy, other):
        with_sampling(p, "heun", 3)
    answers = [p.generate(obs, rng=seeded(0), known=Known(value, weight)) for p in (policy, other)]
    free = [p.generate(obs, rng=seeded(0)) for p in (policy, other)]
    torch.testing.assert_close(answers[1], answers[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(free[1], free[0], rtol=0, atol=1e-4)
    assert not torch.allclose(answers[0], free[0], atol=1e-2)


def test_on_the_command_line_it_is_asked_for_by_name(tmp_path):
    store.save(make("bc"), tmp_path / "model")
    assert isinstance(load_policy(tmp_path / "model", runtime="openvino").decoder.net, Compiled)
    assert not isinstance(load_policy(tmp_path / "model").decoder.net, Compiled)


def test_a_policy_that_writes_tokens_plans_the_same():
    policy = make(MEMORY).eval()
    other = compiled(copy.deepcopy(policy))
    assert isinstance(other.networks()["token"].stream, CompiledStream)
    for rows in (1, 3):
        obs = {k: v for k, v in windows(policy, rows).items() if k.startswith("observation")}
        plans = [p.act(obs, rng=seeded(0)).actions for p in (policy, other)]
        torch.testing.assert_close(plans[1], plans[0], rtol=0, atol=1e-4)


def test_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match="pip install openvino"):
        compiled(make("bc"))
