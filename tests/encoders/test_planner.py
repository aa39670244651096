"""Sub-tasks that are written before actions are planned: what is read when, and that both are learnt."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nextmove import store
from nextmove.codecs.batches import Batches
from nextmove.contracts import PLAN, TASK, Feature, normal, seeded, uniform
from nextmove.encoders import Instruction, Observation, State
from nextmove.encoders.planner import Planner
from nextmove.jobs.tasks.looking import recipe_for
from nextmove.models.policy import PolicySpec, Timing
from nextmove.models.policy.bc import BC
from nextmove.nn import PlainMlp
from nextmove.nn.gpt import Gpt
from nextmove.nn.text_encoder import TextEncoder

STATE = "observation.state"
INPUTS = {STATE: Feature("state", (1,)), TASK: Feature("text")}
LEFT, RIGHT = "Go left.", "Go right."
PLANNER = Planner(network=Gpt(width=32, layers=1, heads=2), length=12, share=0.5)


def batch(rows, seed=0):
    """Where the state says which way to go, and the action goes there."""
    state = 2 * uniform((rows, 1, 1), seeded(seed)) - 1
    plans = [LEFT if float(x) < 0 else RIGHT for x in state]
    action = state.sign().expand(rows, 2, 1).clone()
    return {STATE: state, TASK: ["Go home."] * rows, PLAN: plans, "action": action}


def policy(planner=PLANNER):
    parts = (State(), Instruction(TextEncoder(width=16, layers=1, heads=2), length=32))
    own = BC(encoder=Observation(parts, planner=planner), timing=Timing(n_obs_steps=1, horizon=2, n_action_steps=2))
    recipe = replace(own, decoder=replace(own.decoder, trunk=PlainMlp((16,))))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = store.create("bc", PolicySpec(INPUTS, 1, 10.0), recipe)
    made.fit(Batches([batch(64)]))
    return made


def test_sub_tasks_are_read_in_training_only():
    writing, plain = policy(), policy(None)
    assert set(writing.inputs) == set(plain.inputs) == {STATE, TASK}
    assert set(writing.trained_on) == {STATE, TASK, PLAN}
    assert "plan" in writing.train().loss(batch(8), rng=seeded(0))
    obs = {name: value for name, value in batch(3).items() if name in INPUTS}
    chunk = writing.eval().act(obs, rng=seeded(0))
    assert len(chunk.words) == 3
    assert plain.eval().act(obs, rng=seeded(0)).words == ()


def test_what_was_written_is_read_behind_the_instruction():
    made, obs = policy().eval(), batch(2)
    made.planner.written = lambda ctx, rng: [LEFT, RIGHT]
    told = {**obs, TASK: [f"Go home. Plan: {text}" for text in (LEFT, RIGHT)]}
    plain = policy(None).eval()
    plain.load_state_dict({n: v for n, v in made.state_dict().items() if not n.startswith("planner.")})
    found = made.act({n: obs[n] for n in INPUTS}, rng=seeded(1))
    torch.testing.assert_close(found.actions, plain.act({n: told[n] for n in INPUTS}, rng=seeded(1)).actions)
    assert found.words == (LEFT, RIGHT)


def test_writing_and_acting_are_learnt_together():
    made = policy().train()
    optimiser = torch.optim.AdamW(made.parameters(), lr=5e-3)
    for step in range(120):
        terms = made.loss(batch(32, seed=step), rng=seeded(step))
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
    held = batch(64, seed=1000)
    far = [row for row in range(64) if abs(float(held[STATE][row])) > 0.2]
    chunk = made.eval().act({n: held[n] for n in INPUTS}, rng=seeded(0))
    assert sum(chunk.words[row] == held[PLAN][row] for row in far) > 0.9 * len(far)
    assert (chunk.actions[far] - held["action"][far]).abs().mean() < 0.3
    # The words, not the state, may decide: another plan is another action.
    noise = normal((64, 1, 1), seeded(3)) * 0
    same = {STATE: noise, TASK: ["Go home."] * 64}
    made.planner.written = lambda ctx, rng: [LEFT] * 32 + [RIGHT] * 32
    actions = made.act(same, rng=seeded(0)).actions
    assert actions[:32].mean() < actions[32:].mean() - 0.2


def test_what_does_not_fit_is_named():
    made = policy(replace(PLANNER, length=4)).train()
    with pytest.raises(ValueError, match=r"plan: expected fewer than 4 bytes, found 'Go (left|right)\.'"):
        made.loss(batch(4), rng=seeded(0))
    with pytest.raises(ValueError, match=r"planner: expected a policy that reads an instruction, found observation"):
        store.create("bc", PolicySpec(INPUTS, 1, 10.0), BC(encoder=Observation((State(),), planner=PLANNER)))
    with pytest.raises(ValueError, match=r"planner.share: expected a share above 0, at most 1, found 0"):
        policy(replace(PLANNER, share=0.0))
    asked = recipe_for("flow-policy", parts="state,instruction,planner").encoder
    assert asked.planner == Planner()
    assert asked.parts[1] == Instruction(length=Instruction().length + Planner().length)
