"""Sub-tasks in the words of the language model that reads: one pass or several, what is learnt, kept and saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.nn import functional as F

from nextmove import store
from nextmove.config import ConfigError
from nextmove.contracts import PLAN, TASK, Context, Feature, Optim, memory, seeded, total
from nextmove.encoders.spoken import Spoken
from nextmove.interop.openvla.exporting import export
from nextmove.jobs.prefixes import frozen_encoder
from nextmove.jobs.tasks.looking import recipe_for
from nextmove.jobs.tuned import warn_frozen_planner
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.pi05 import Pi05
from nextmove.models.policy.rt2 import Rt2, around
from nextmove.models.vision_language.llava import Llava, llama
from nextmove.models.vision_language.paligemma import gemma
from nextmove.nn.mask import block_mask
from nextmove.systems import find
from nextmove.training.optim import Update

CAMERA, OWN = "observation.image", "observation.state"
INPUTS = {CAMERA: Feature("image", (16, 16, 3)), OWN: Feature("state", (2,)), TASK: Feature("text")}
SPEC = PolicySpec(INPUTS, 3, 5.0)
PLANS = ["Go to it.", "Open the jaws."]


def rt2() -> Rt2:
    """Of few weights, reading in order."""
    own = Llava()
    tower = replace(own.tower, image=16, patch=8, width=24, layers=1, heads=2, stem=())
    return Rt2(encoder=around(replace(own, tower=tower, net=replace(own.net, trunk=llama(32, 2, 2, 48)))))


def pi05() -> Pi05:
    """Of few weights, whose prefix sees all of itself."""
    own = Pi05()
    tower = replace(own.encoder.towers[0], image=16, patch=8, width=24, layers=1, heads=2, stem=())
    trunk = replace(own.decoder.trunk, width=24, heads=4)
    encoder = replace(own.encoder, language=gemma(32, 2, 4, 8, 48), towers=(tower,))
    timing = replace(own.timing, horizon=4, n_action_steps=2)
    return replace(own, encoder=encoder, decoder=replace(own.decoder, trunk=trunk), timing=timing)


def batch(horizon: int) -> dict[str, Any]:
    rng = seeded(3)
    return {
        CAMERA: torch.randint(0, 256, (2, 1, 16, 16, 3), generator=rng, dtype=torch.uint8),
        OWN: torch.rand(2, 1, 2, generator=rng),
        TASK: ["push it", "pick it up"],
        PLAN: list(PLANS),
        "action": torch.tensor([[-0.5, 0.0, 0.5], [0.7, 0.2, -0.3]])[:, None].expand(-1, horizon, -1),
        "action_is_pad": torch.zeros(2, horizon, dtype=torch.bool),
    }


def made(recipe: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy: Any = store.create("rt2" if isinstance(recipe, Rt2) else "pi05", SPEC, recipe)
    policy.fit([batch(policy.timing.horizon)])
    return policy


def seen(policy: Any, **extra: Any) -> dict[str, Any]:
    return {name: value for name, value in batch(1).items() if name in policy.inputs} | extra


def gradients(policy: Any, loss: torch.Tensor) -> dict[str, torch.Tensor | None]:
    names, weights = zip(*policy.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, weights, allow_unused=True), strict=True))


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, mine in found.items():
        theirs = expected[name]
        assert (mine is None) == (theirs is None), name
        if mine is not None:
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def answering() -> Any:
    """A policy of one answer that has learnt two scenes by heart."""
    return learnt(made(rt2().planning()), 80)


@pytest.fixture(scope="module")
def asked() -> Any:
    """The same of one that is asked for its sub-task by a prompt."""
    recipe = pi05().planning()
    return learnt(
        made(replace(recipe, encoder=replace(recipe.encoder, planner=replace(recipe.encoder.planner, share=1.0))))
    )


def learnt(policy: Any, steps: int = 120) -> Any:
    optim = Optim(lr=1e-2, betas=(0.9, 0.999), weight_decay=1e-2, clip=1.0)
    update = Update(dict(policy.named_parameters()), optim, undecayed=set())
    for step in range(steps):
        update.zero()
        total(policy.train().loss(batch(policy.timing.horizon), rng=seeded(step))).backward()
        update.apply(1.0, float(update.norm()))
    return policy.eval()


def prefix(policy: Any, obs: dict[str, Any], row: int, template: str = "") -> torch.Tensor:
    """What the language model is shown of one row, unpadded (1, P, W)."""
    encoder, one = policy.encoder, {name: value[row : row + 1] for name, value in obs.items() if name in INPUTS}
    prompt = replace(encoder.config.prompt, template=template or encoder.config.prompt.template)
    state = encoder.shown(one) if encoder.config.state == "words" else None
    ids, _ = prompt.ids(encoder.tokenizer, prompt.texts(one[TASK], state))
    return encoder.embedded(encoder.pictures(one, 1), ids, None, None)[0]


def entropies(policy: Any, x: torch.Tensor, ids: list[int], given: int) -> torch.Tensor:
    """The cross entropy of `ids`, but for those given, behind a prefix, in one pass over both."""
    language = policy.encoder.language
    whole = torch.cat([x, language.embed(torch.tensor([ids]))], 1)
    block = torch.arange(whole.shape[1])
    if policy.encoder.config.order == "whole":
        block = (block - x.shape[1] + 1).clamp(min=0)
    sight = block_mask(torch.ones(whole.shape[:2], dtype=torch.bool), block)
    h, _ = language.read_embedded(whole, Context.empty(1), mask=sight)
    logits = language.logits(h[0, x.shape[1] + given - 1 : -1])
    return F.cross_entropy(logits, torch.tensor(ids[given:]), reduction="none")


def test_one_answer_is_one_loss_of_one_pass() -> None:
    policy = made(rt2().planning())
    terms = policy.loss(batch(1), rng=seeded(0))
    assert set(terms) == {PLAN, "nll"}
    spell = policy.encoder.tokenizer.encode
    classes = policy.codec.encode(batch(1)["action"], batch(1))
    lead, rows = list(policy.lead), []
    for row, text in enumerate(PLANS):
        said = [*spell(f"Plan: {text}").tolist(), policy.end, *spell("Action:").tolist()]
        moves = policy.decoder.net.table[classes[row]].tolist()
        errors = entropies(policy, prefix(policy, batch(1), row), [*lead, *said, *lead, *moves], len(lead))
        # The lead in front of the actions is given again.
        rows.append(torch.cat([errors[: len(said)], errors[len(said) + len(lead) :]]).sum() / len(moves))
    expected = torch.stack(rows).mean()
    torch.testing.assert_close(total(terms), expected)
    same(gradients(policy, total(terms)), gradients(policy, expected))


def test_a_language_model_that_is_frozen_learns_no_words() -> None:
    own: Any = find("smolvla").load()
    with pytest.raises(ValueError, match="planner: expected a language model that learns to write sub-tasks, found"):
        own.published().planning()


def test_it_is_said_when_no_weight_that_writes_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = pi05().planning()
    for scales, said in [((("encoder.towers", 0.0),), False), ((("encoder.language", 0.0),), True)]:
        warn_frozen_planner(made(replace(recipe, optim=replace(recipe.optim, scales=scales))))
        assert ("planner: no weight that writes sub-tasks is trained" in capsys.readouterr().out) == said


@pytest.mark.parametrize("system", ["pi0", "pi0-fast", "smolvla", "openvla"])
def test_others_that_read_are_asked_in_the_same_way(system: str, tmp_path: Path) -> None:
    own: Any = find(system).load()()
    patch = 4 if system == "smolvla" else 8
    towers = tuple(replace(tower, image=16, patch=patch) for tower in own.encoder.towers)
    plain = replace(own, encoder=replace(own.encoder, towers=towers))
    policies = []
    for recipe in (plain.planning(), plain):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            policies.append(cast(Any, store.create(system, SPEC, recipe)))
        policies[-1].fit([batch(policies[-1].timing.horizon)])
    policy, silent = (one.eval() for one in policies)
    rows = batch(policy.timing.horizon)
    terms = policy.loss(rows, rng=seeded(0))
    spell = policy.encoder.tokenizer.encode
    opening = spell("Plan: ").tolist()
    said = [*opening, *spell(PLANS[0]).tolist(), 258]
    if system != "smolvla":  # its prefix ends with the state, which the helper does not show
        expected = entropies(policy, prefix(policy, rows, 0), said, len(opening)).mean()
        torch.testing.assert_close(terms[PLAN], expected)
    told = rows | {TASK: [f"{task} Plan: {text}" for task, text in zip(rows[TASK], PLANS, strict=True)]}
    assert [*policy.state_dict()] == [*silent.state_dict()], "no part is added"
    silent.load_state_dict(policy.state_dict())
    length = policy.encoder.config.prompt.length
    silent.encoder.config = replace(silent.encoder.config, prompt=replace(silent.encoder.config.prompt, length=length))
    for name, term in silent.loss(told, rng=seeded(0)).items():
        torch.testing.assert_close(terms[name], term)
    chunk = policy.act(seen(policy), rng=seeded(1))
    assert len(chunk.words) == 2
    again = policy.act(seen(policy, plan=list(PLANS)), rng=seeded(1))
    assert list(again.words) == PLANS, "what is given is kept"
    if system == "openvla":
        with pytest.raises(ConfigError, match=r"encoder\.planner: OpenVLA's code writes no sub-task"):
            export(policy, tmp_path / "theirs")


def test_asked_for_its_words_stand_in_the_prefix_of_the_actions() -> None:
    policy, plain = made(pi05().planning()), made(pi05())
    terms = policy.loss(batch(4), rng=seeded(0))
    spell = policy.encoder.tokenizer.encode
    opening = spell("Plan: ").tolist()
    # A quarter of two rows, at least one, is written.
    said = [*opening, *spell(PLANS[0]).tolist(), 258]
    words = entropies(policy, prefix(policy, batch(4), 0, "Task: {task}, State: {state};\n"), said, len(opening)).mean()
    torch.testing.assert_close(terms[PLAN], words)
    told = batch(4) | {TASK: [f"{task} Plan: {text}" for task, text in zip(batch(4)[TASK], PLANS, strict=True)]}
    assert [*policy.state_dict()] == [*plain.state_dict()], "no part is added"
    policy.load_state_dict(plain.state_dict())
    length = policy.encoder.config.prompt.length
    plain.encoder.config = replace(plain.encoder.config, prompt=replace(plain.encoder.config.prompt, length=length))
    torch.testing.assert_close(terms["velocity"], plain.loss(told, rng=seeded(0))["velocity"])
    terms = policy.loss(batch(4), rng=seeded(0))
    words = entropies(policy, prefix(policy, batch(4), 0, "Task: {task}, State: {state};\n"), said, len(opening)).mean()
    same(gradients(policy, terms[PLAN]), gradients(policy, words))


@pytest.mark.parametrize("kind", ["answering", "asked"])
def test_it_says_the_sub_task_and_does_it(kind: str, request: pytest.FixtureRequest, tmp_path: Any) -> None:
    policy = request.getfixturevalue(kind)
    assert set(policy.trained_on) == {*policy.inputs, PLAN}
    chunk = policy.act(seen(policy), rng=seeded(0))
    assert chunk.words == tuple(PLANS)
    if kind == "answering":
        torch.testing.assert_close(chunk.actions, batch(1)["action"], atol=0.02, rtol=0)
    again = store.load(store.save(policy, tmp_path / "saved")).act(seen(policy), rng=seeded(0))
    assert again.words == chunk.words
    torch.testing.assert_close(again.actions, chunk.actions)
    for row in range(2):  # beside another that says less, or more
        alone = {name: value[row : row + 1] for name, value in seen(policy).items()}
        one = policy._generate(alone, seeded(0))
        assert one[1] == (PLANS[row],)
        if kind == "answering":
            torch.testing.assert_close(one[0][:, 0], chunk.actions[row : row + 1, 0])


@pytest.mark.parametrize("kind", ["answering", "asked"])
def test_a_sub_task_that_is_given_is_read_in_place_of_its_own(kind: str, request: pytest.FixtureRequest) -> None:
    policy = request.getfixturevalue(kind)
    own = policy.act(seen(policy), rng=seeded(0))
    given = policy.act(seen(policy, plan=[PLANS[0], ""]), rng=seeded(0))
    assert given.words == tuple(PLANS)
    torch.testing.assert_close(given.actions, own.actions)
    other = policy.act(seen(policy, plan=[PLANS[1], PLANS[1]]), rng=seeded(0))
    assert other.words == (PLANS[1],) * 2
    assert not torch.allclose(other.actions[0], own.actions[0])
    torch.testing.assert_close(other.actions[1], own.actions[1])


def test_the_prefix_is_read_and_copied_once(answering: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, buffers = [], []
    forward, made_of = type(answering.encoder.reader).forward, memory.KvBuffer.__init__

    def counted(self: Any, *args: Any) -> Any:
        reads.append(1)
        return forward(self, *args)

    def held(self: Any, *args: Any) -> None:
        buffers.append(1)
        made_of(self, *args)

    monkeypatch.setattr(type(answering.encoder.reader), "forward", counted)
    monkeypatch.setattr(memory.KvBuffer, "__init__", held)
    answering.act(seen(answering), rng=seeded(0))
    assert len(reads) == 1
    assert len(buffers) == answering.encoder.config.language.layers


def test_pictures_are_looked_at_once_for_both_prompts(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    forward = type(asked.encoder.sight).forward

    def counted(self: Any, *args: Any) -> Any:
        looks.append(1)
        return forward(self, *args)

    monkeypatch.setattr(type(asked.encoder.sight), "forward", counted)
    asked.act(seen(asked), rng=seeded(0))
    assert len(looks) == 1


@pytest.mark.parametrize("kind", [rt2, pi05])
def test_without_a_plan_nothing_is_said(kind: Any) -> None:
    plain = made(kind()).eval()
    assert plain.planner is None
    assert plain.plans_a_subtask == 1
    assert set(plain.trained_on) == set(plain.inputs)
    chunk = plain.act(seen(plain), rng=seeded(0))
    assert chunk.words == ()
    obs = seen(plain)
    with torch.no_grad():
        ctx = plain.encoder.acting(obs, batch=2)
        x = plain.decoder.sample(ctx, shape=plain.shape, rng=seeded(0))
    torch.testing.assert_close(chunk.actions, plain.codec.decode(x, obs))


def test_what_does_not_fit_is_named() -> None:
    unlabelled = {name: value for name, value in batch(4).items() if name != PLAN}
    for recipe in (rt2().planning(), pi05().planning()):
        with pytest.raises(ValueError, match=r"plan: expected the sub-task of every row to learn from, found action"):
            made(recipe).loss(unlabelled, rng=seeded(0))
    short = replace(rt2().encoder, planner=Spoken(length=5))
    with pytest.raises(ValueError, match=r"plan: expected fewer than 5 ids, found 9 in 'Go to it\.'"):
        made(replace(rt2(), encoder=short)).loss(batch(1), rng=seeded(0))
    answers = replace(pi05().encoder, planner=Spoken())
    with pytest.raises(ValueError, match=r"planner\.place: expected 'prompt' where the decoder does not go on"):
        made(replace(pi05(), encoder=answers))
    with pytest.raises(ValueError, match=r"planner\.asks: expected '' where the sub-task is a part of the answer"):
        Spoken(asks="{task}")
    with pytest.raises(ValueError, match=r"planner\.share: expected a share above 0, at most 1, found 0"):
        Spoken("prompt", share=0)
    with pytest.raises(ValueError, match=r"planner\.every: expected at least 1, found 0"):
        Spoken(every=0)
    with pytest.raises(ConfigError, match=r"--prefix-cache: expected a policy that says no sub-tasks"):
        frozen_encoder(made(pi05().planning()))


def test_it_is_asked_for_among_the_parts() -> None:
    assert recipe_for("rt2", INPUTS, parts="planner").encoder.planner == Spoken()
    asks = recipe_for("pi05", INPUTS, parts="planner").encoder
    assert asks.planner.place == "prompt"
    assert asks.cameras == (CAMERA,)
    assert asks.prompt.length > Pi05().encoder.prompt.length + asks.planner.length
    with pytest.raises(ConfigError, match=r"Rt2 reads cameras.*leave it out .*or name planner alone"):
        recipe_for("rt2", INPUTS, parts="state,planner")
    with pytest.raises(ConfigError, match=r"OpenVlaOft reads cameras.*names the cameras\)$"):
        recipe_for("openvla-oft", INPUTS, parts="planner")
