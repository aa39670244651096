"""OpenVLA-OFT: heads beside a folder, read without running them, and the chunk that comes of one pass."""

import io
import json
import math
import pickle
import zipfile
from dataclasses import replace

import pytest
import torch
from tests.interop.openvla_folders import ACTIONS, STEPS, WIDTH, folder_of, head, opened, random, tuned

from nextmove import store
from nextmove.config import ConfigError
from nextmove.contracts import TASK, Context, Feature, seeded
from nextmove.interop.openvla import export
from nextmove.models.policy import PolicySpec
from nextmove.models.policy.openvla_oft import OpenVlaOft, steered

KEY = "libero_toy"


@pytest.fixture
def folder(tmp_path):
    return folder_of(tmp_path / "openvla")


def observed(policy, rows=2):
    rng = seeded(3)
    pictures = [(torch.rand(rows, 3, 28, 28, generator=rng), None) for _ in policy.encoder.cameras]
    ids, mask = torch.randint(3, 60, (rows, 6), generator=rng), torch.ones(rows, 6, dtype=torch.bool)
    mask[1, 4:] = False
    return pictures, ids, mask, torch.rand(rows, 8, generator=rng)


def test_a_chunk_is_read_off_one_pass_in_which_everything_sees_everything(folder):
    loaded = opened(tuned(folder), key=KEY, cameras=("observation.images.a", "observation.images.b"))
    policy, encoder = loaded.policy, loaded.policy.encoder
    pictures, ids, mask, state = observed(policy)
    with torch.no_grad():
        ctx = encoder.prefix(pictures, ids, mask, state)
        found = policy.decoder.sample(ctx, shape=policy.shape, rng=seeded(0))
        # Written down again for each row alone, without padding, from the order that is published.
        embed, net = encoder.language.embed, policy.decoder.net
        for row in range(2):
            count = int(mask[row].sum())
            words = embed(ids[row : row + 1, :count])
            seen = [
                encoder.sight.tokens(encoder.sight.features(encoder.sight.scaled(p[row : row + 1])))
                for p, _ in pictures
            ]
            token = encoder.state(state[row : row + 1])[:, None]
            lead, end = (embed(torch.tensor([part])) for part in (net.config.lead, net.config.end))
            blanks = torch.zeros(1, STEPS * ACTIONS, WIDTH)
            x = torch.cat([words[:, :1], *seen, token, words[:, 1:], lead, blanks, end], 1)
            h, _ = encoder.language.read_embedded(x, Context.empty(1), mask=None)
            patches = sum(part.shape[1] for part in seen) + 1
            h = h[:, patches + count : patches + count + STEPS * ACTIONS]
            expected = net.head(h.reshape(1, STEPS, ACTIONS * WIDTH))
            assert torch.allclose(found[row], expected[0], atol=1e-5)
    assert policy.timing.horizon == policy.timing.n_action_steps == STEPS
    assert "openvla-oft" in str(loaded.report)
    # Of several files of a part the one of the most steps is taken.
    assert torch.equal(policy.decoder.net.head.maps[0].weight, random(head("model."), 1)["module.model.fc1.weight"])


def test_the_time_of_a_step_stands_between_pictures_and_words(folder):
    policy = opened(tuned(folder, noise=True), key=KEY).policy
    encoder, net = policy.encoder, policy.decoder.net
    pictures, ids, mask, state = observed(policy)
    noisy, step = torch.rand(2, STEPS, ACTIONS, generator=seeded(5)), torch.tensor([[31.0], [4.0]])
    with torch.no_grad():
        found = net(noisy, step, encoder.prefix(pictures, ids, mask, state))
        embed = encoder.language.embed
        # The published code appends the time to pictures and state; noisy numbers take the placeholders' places.
        half = WIDTH // 2
        turns = step * torch.exp(torch.arange(half) * -math.log(10000) / (half - 1))
        time = torch.cat([turns.sin(), turns.cos()], -1)[:, None]
        for row in range(2):
            count = int(mask[row].sum())
            words = embed(ids[row : row + 1, :count])
            scaled = encoder.sight.scaled(pictures[0][0][row : row + 1])
            seen = encoder.sight.tokens(encoder.sight.features(scaled))
            token = encoder.state(state[row : row + 1])[:, None]
            lead, end = (embed(torch.tensor([part])) for part in (net.config.lead, net.config.end))
            numbers = net.inputs(noisy[row].reshape(1, -1, 1))
            x = torch.cat([words[:, :1], seen, token, time[row : row + 1], words[:, 1:], lead, numbers, end], 1)
            h, _ = encoder.language.read_embedded(x, Context.empty(1), mask=None)
            patches = seen.shape[1] + 2
            h = h[:, patches + count : patches + count + STEPS * ACTIONS]
            assert torch.allclose(found[row], net.head(h.reshape(1, STEPS, ACTIONS * WIDTH))[0], atol=1e-5)


def test_states_outside_of_the_statistics_are_cut(folder):
    encoder = opened(tuned(folder), key=KEY).policy.encoder
    scaled = encoder.scale.encode(torch.tensor([-3.0, *[1.0 + i for i in range(1, 8)]]))
    assert torch.equal(scaled, torch.tensor([-1.0] + [1.0] * 7))


@pytest.mark.parametrize("parts", [{}, {"noise": True}, {"film": True}])
def test_heads_go_in_and_back_out(parts, folder, tmp_path):
    loaded = opened(tuned(folder, **parts), key=KEY)
    export(loaded.policy, tmp_path / "out", config=loaded.config)
    (tmp_path / "out" / "dataset_statistics.json").write_text((folder / "dataset_statistics.json").read_text())
    again = opened(tmp_path / "out", key=KEY)
    mine, theirs = loaded.policy.state_dict(), again.policy.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert type(again.policy.decoder) is type(loaded.policy.decoder)


def test_towers_are_steered_by_the_mean_word(folder):
    policy = opened(tuned(folder, film=True), key=KEY).policy
    encoder = policy.encoder
    pictures, ids, mask, state = observed(policy, rows=2)
    with torch.no_grad():
        x, _, _ = encoder.embedded(pictures, ids, mask, state)
        row, count = 1, int(mask[1].sum())
        told = encoder.language.embed(torch.tensor([*ids[row, :count].tolist(), *encoder.config.told]))
        by = told.mean(0, keepdim=True)
        seen = encoder.sight.tokens(encoder.sight.features(encoder.sight.scaled(pictures[0][0][row : row + 1]), by))
    assert len(encoder.config.told) == 2
    assert torch.allclose(x[row : row + 1, 1 : 1 + seen.shape[1]], seen, atol=1e-5)
    # The adapter of rank 32 counts by half.
    attention = encoder.towers[0].stream.blocks[0].attention.out_proj.weight
    plain = (
        opened(folder_of(folder.parent / "plain")).policy.encoder.towers[0].stream.blocks[0].attention.out_proj.weight
    )
    assert not torch.allclose(attention, plain, atol=1e-2)


class _Runs:
    def __reduce__(self):
        return print, ("run",)


def test_a_file_that_would_run_something_is_refused(folder, capsys):
    place = tuned(folder) / "action_head--901_checkpoint.pt"
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"model.fc2.weight": _Runs()}, protocol=2))
        archive.writestr("archive/byteorder", "little")
    place.write_bytes(whole.getvalue())
    with pytest.raises(ConfigError, match=r"901_checkpoint.pt: no file of tensors that can be read without running it"):
        opened(folder, key=KEY)
    assert capsys.readouterr().out == ""


def test_a_part_of_the_heads_is_no_whole_folder(folder):
    head = tuned(folder) / "action_head--900_checkpoint.pt"
    whole = head.read_bytes()
    head.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=rf"{head.name}: .*cut off after {len(whole) // 2} bytes; take it from"):
        opened(folder, key=KEY)
    head.unlink()
    (folder / "action_head--80_checkpoint.pt").unlink()
    with pytest.raises(ConfigError, match=r"expected action_head--STEPS_checkpoint.pt beside proprio_projector--900_"):
        opened(folder, key=KEY)


def test_heads_that_do_not_fit_are_named(folder):
    path = tuned(folder) / "dataset_statistics.json"
    data = json.loads(path.read_text())
    action = {name: value[:6] for name, value in data[KEY]["action"].items()}
    path.write_text(json.dumps({KEY: data[KEY] | {"action": action}}))
    with pytest.raises(ConfigError, match=r"norm_stats.libero_toy.action: expected the head's 7 numbers, found 6"):
        opened(folder, key=KEY)
    path.write_text(json.dumps({"mine": data[KEY]}))
    with pytest.raises(ConfigError, match=r"horizon: expected the number of actions of a chunk.*'mine' says it"):
        opened(folder, key="mine")
    assert opened(folder, key="mine", horizon=4).policy.timing.horizon == 4


SPEC = PolicySpec(
    {
        "observation.images.a": Feature("image", (32, 32, 3)),
        "observation.state": Feature("state", (3,)),
        TASK: Feature("text"),
    },
    2, 10.0,
)  # fmt: skip


@pytest.mark.parametrize("kind", ["l1", "diffusion", "flow", "steered"])
def test_every_head_trains_and_is_saved(kind, tmp_path):
    recipe = OpenVlaOft().seeing(SPEC.inputs)
    recipe = replace(recipe, encoder=steered(recipe.encoder)) if kind == "steered" else recipe.headed(kind)
    policy = store.create("openvla-oft", SPEC, recipe)
    rng = seeded(0)
    batch = {
        "observation.images.a": torch.randint(0, 256, (2, 1, 32, 32, 3), generator=rng, dtype=torch.uint8),
        "observation.state": torch.rand(2, 1, 3, generator=rng),
        TASK: ["push", "pull it back"],
        "action": torch.rand(2, 8, 2, generator=rng),
        "action_is_pad": torch.zeros(2, 8, dtype=torch.bool),
    }
    policy.fit([batch])
    terms = policy.train().loss(batch, rng=rng)
    sum(terms.values()).backward()
    without = [name for name, weight in policy.named_parameters() if weight.grad is None]
    # The table of words is read, but no word is written.
    assert without == ["encoder.language.head.weight"]
    store.save(policy, tmp_path / "model")
    obs = {name: batch[name] for name in SPEC.inputs}
    plan = policy.eval().act(obs, rng=seeded(1)).actions
    assert torch.equal(store.load(tmp_path / "model").act(obs, rng=seeded(1)).actions, plan)
    assert plan.shape == (2, 8, 2)
