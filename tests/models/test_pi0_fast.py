"""pi0-FAST: sizes as published, one pass as two, plans with a memory as without, only plans that can be decoded."""

from dataclasses import replace

import pytest
import torch
from tests.models.test_pi import INPUTS, OWN, SPEC, TOWER, WRIST

from nextmove import store, weights
from nextmove.contracts import TASK, Context, seeded
from nextmove.decoders.autoregressive import Reading as Reader
from nextmove.decoders.sampling import Sampling
from nextmove.models.policy.pi0_fast import BYTES, Pi0Fast, written
from nextmove.models.vision_language.paligemma import gemma
from nextmove.nn import count
from nextmove.nn.mask import block_mask

PIECES = 300


def recipe():
    """One of few weights."""
    own = Pi0Fast()
    language = replace(gemma(32, 2, 4, 8, 48), head="plain")
    encoder = replace(own.encoder, language=language, towers=(TOWER,), ids=BYTES + PIECES + 1)
    return replace(
        own, encoder=encoder, decoder=written(BYTES, PIECES, 1, (257, 65, 66), BYTES + PIECES),
        actions=replace(own.actions, fast=PIECES), timing=replace(own.timing, horizon=6, n_action_steps=2),
    )  # fmt: skip


def batch(rows=4):
    rng = seeded(0)
    images = {n: torch.randint(0, 256, (rows, 1, *f.shape), generator=rng, dtype=torch.uint8)
              for n, f in INPUTS.items() if f.type == "image"}  # fmt: skip
    # Words of several lengths, so that there is padding.
    tasks = ["push the block", "open it", "stop", "lift the block"][:rows]
    numbers = {OWN: torch.randn(rows, 1, 3, generator=rng), "action": torch.randn(rows, 6, 2, generator=rng).cumsum(1)}
    return {**images, **numbers, TASK: tasks, "action_is_pad": torch.zeros(rows, 6, dtype=torch.bool)}


@pytest.fixture
def policy():
    torch.manual_seed(0)
    made = store.create("pi0-fast", SPEC, recipe())
    made.fit([batch()])
    return made.eval()


@pytest.mark.parametrize(("head", "size"), [("tied", 2_923_335_408), ("plain", 2_923_335_408 + 526_647_296)])
def test_published_sizes(head, size):
    own = Pi0Fast.published()
    own = replace(own, encoder=replace(own.encoder, language=replace(own.encoder.language, head=head)))
    with weights.without_storage():
        made = own.build(SPEC)
    assert count(made) == size
    table = made.decoder.net.table
    assert table[[0, 1, 2047, 2048]].tolist() == [257023, 257022, 254976, 235371]


def test_it_trains_acts_and_is_saved_as_every_policy(policy, tmp_path):
    policy.loss(batch(), rng=seeded(1))["nll"].backward()
    trained = {n for n, w in policy.named_parameters() if w.grad is not None and bool(w.grad.any())}
    assert any(n.startswith("encoder.towers") for n in trained), "gradients reach what sees"
    obs = {n: v for n, v in batch().items() if n in INPUTS}
    chunk = policy.act(obs, rng=seeded(2))
    assert chunk.actions.shape == (4, 6, 2)
    assert policy.codec.fast.broken == 0
    again = store.load(store.save(policy, tmp_path / "saved"))
    assert torch.equal(again.act(obs, rng=seeded(2)).actions, chunk.actions)
    policy.act({n: v for n, v in obs.items() if n != WRIST}, rng=seeded(2))


def test_prefix_and_suffix_are_one_pass_with_its_gradients(policy):
    rows, encoder, decoder = batch(), policy.encoder, policy.decoder
    x = policy.codec.encode(rows["action"], rows)
    prompt = encoder.config.prompt
    ids, mask = prompt.ids(encoder.tokenizer, prompt.texts(rows[TASK], encoder.shown(rows)))
    assert not mask.all()
    seen = [encoder.seen(rows, name, 4) for name in encoder.cameras]

    def gradients(logits):
        own = x.clamp(min=0)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), own.flatten())
        policy.zero_grad()
        loss.backward()
        return {n: w.grad.clone() for n, w in policy.named_parameters() if w.grad is not None}

    apart = decoder.logits(encoder.prefix(seen, ids, mask), x.clamp(min=0))
    first = gradients(apart)
    before, valid, _ = encoder.embedded(seen, ids, mask)
    table = torch.cat([decoder.net.table, torch.zeros(1, dtype=torch.long)])
    behind = torch.cat([torch.tensor([[257, 65, 66]]).expand(4, -1), table[x.clamp(min=0)[:, :-1]]], 1)
    whole = torch.cat([before, encoder.language.embed(behind)], 1)
    valid = torch.cat([valid, torch.ones_like(behind, dtype=torch.bool)], 1)
    # All of the prefix is one block, each id behind it one of its own.
    block = (torch.arange(whole.shape[1]) - before.shape[1] + 1).clamp(min=0)
    h, _ = encoder.language.read_embedded(
        whole, Context.empty(4), mask=block_mask(valid, block), positions=valid.cumsum(1) - 1
    )
    every, acts = encoder.language.logits(h[:, -x.shape[1] :]), decoder.net.table
    # All ids that are none of actions count as one class.
    rest = every.index_fill(-1, acts, -torch.inf).logsumexp(-1, keepdim=True)
    together = torch.cat([every[..., acts], rest], -1)
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-5)
    second = gradients(together)
    assert first.keys() == second.keys()
    for name, gradient in first.items():
        torch.testing.assert_close(second[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_what_stands_in_front_of_the_ids_is_learnt_over_the_whole_vocabulary(policy):
    rows, encoder, decoder = batch(), policy.encoder, policy.decoder
    x, lead = policy.codec.encode(rows["action"], rows), decoder.net.config.lead
    table = torch.cat([decoder.net.table, torch.zeros(1, dtype=torch.long)])
    ctx, errors = policy.context(rows), []
    for i in range(4):
        # As published: the mean over all that is written behind the text's beginning, "Action: " and the end included.
        ids = torch.cat([torch.tensor(lead), table[x[i][x[i] >= 0]]])[None]
        memory = ctx.map(lambda part, i=i: part[i : i + 1]).memory
        h, _ = encoder.language.read_embedded(encoder.language.embed(ids[:, :-1]), Context.empty(1), memory)
        errors.append(torch.nn.functional.cross_entropy(encoder.language.logits(h)[0], ids[0, 1:]))
        assert int(ids[0, -1]) == BYTES + PIECES
    found = policy.loss(rows, rng=seeded(0))["nll"]
    torch.testing.assert_close(found, torch.stack(errors).mean(), rtol=1e-5, atol=1e-5)
    assert len(lead) == 3
    with pytest.raises(ValueError, match=r"trunk\.learnt: expected ids that end a sequence"):
        replace(decoder.config, ends=False).build(shape=policy.shape, context=encoder.spec)


def test_ids_with_a_memory_are_those_without(policy):
    obs = {n: v for n, v in batch().items() if n in INPUTS}
    decoder, rule = policy.decoder, policy.codec.rule
    with torch.inference_mode():
        ctx = policy.context(obs)
        kept = decoder.sample(ctx, shape=policy.shape, rng=seeded(3), allowed=rule, sampling=Sampling(0.0))
        ids = torch.zeros_like(kept)
        for i in range(kept.shape[1]):
            # A new reader has read nothing yet.
            logits = Reader(decoder, ctx).next(ids, i)[:, :-1].masked_fill(~rule(i, ids[:, :i]), -torch.inf)
            ended = (ids[:, :i] == decoder.config.end).any(1)
            ids[:, i] = torch.where(ended, decoder.config.end, logits.argmax(-1))
            if (ids[:, : i + 1] == decoder.config.end).any(1).all():
                break
        ids[:, i + 1 :] = decoder.config.end
    assert torch.equal(kept, ids)


def test_what_the_words_say_and_what_is_wrong(policy):
    low = policy.encoder.scale.decode(torch.full((1, 3), -1.0))
    told = policy.encoder.config.prompt.texts([" a_b\n"], policy.encoder.shown({OWN: low[:, None]}))
    assert told[0].startswith("Task: a b, State: ")
    assert told[0].endswith(";\n")
    own = recipe()
    with pytest.raises(ValueError, match="ids below the language model's 560, found 600"):
        replace(own, decoder=written(BYTES, PIECES, 1, (257,), 600)).build(SPEC)
    with pytest.raises(
        ValueError, match=r"actions\.fast: expected 200, the ids that decoder\.trunk\.vocabulary holds.*300"
    ):
        replace(own, decoder=written(BYTES, 200, 1, (257,), 600)).build(SPEC)
