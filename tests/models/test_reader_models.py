"""Models that read images and answer: what counts in the loss, what is read once, examples, and what is refused."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from nextmove import store
from nextmove.codecs.byte_level import train_captions
from nextmove.contracts import Context, ContextSpec, seeded
from nextmove.decoders.sampling import Sampling
from nextmove.models.vision_language.asking import Seen, Thread
from nextmove.models.vision_language.branches import joined, sharing
from nextmove.models.vision_language.flamingo import Flamingo
from nextmove.models.vision_language.llava import Llava, llama
from nextmove.models.vision_language.paligemma import PaliGemma, gemma
from nextmove.models.vision_language.reader import _answers_that_count
from nextmove.models.vision_language.shots import NAMES, Shots, copied, crossed, explained, kept_names
from nextmove.models.vision_language.smolvlm import SmolVlm
from nextmove.models.vision_language.spec import PairSpec
from nextmove.models.vision_language.wording import CHAT, PLAIN, Turn, Wording
from nextmove.nn.attention import Heads
from nextmove.nn.norm import RmsNorm
from nextmove.nn.perceiver import Perceiver
from nextmove.nn.prefix import Prefix
from nextmove.nn.projector import Projector, pixel_shuffled

GREEDY = Sampling(temperature=0.0)
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
QUESTION = "What colour is it?"
CODEC = train_captions([QUESTION, *COLOURS, *NAMES[:60]], 300)
OWN = Heads(2, head_dim=8, bias=False, out_bias=False)


def tiny(system):
    def tower(recipe):
        return replace(recipe.tower, image=16, patch=8, width=24, layers=2, heads=2, stem=())

    if system == "flamingo":
        recipe = Flamingo()
        return replace(
            recipe, tower=tower(recipe), resampler=Perceiver(3, 1, OWN), trunk=llama(32, 2, 2, 48), heads=OWN
        )
    recipe = {"llava": Llava, "smolvlm": SmolVlm, "paligemma": PaliGemma}[system]()
    trunk = gemma(32, 2, 2, 16, 48) if system == "paligemma" else llama(32, 2, 2, 48)
    return replace(recipe, tower=tower(recipe), net=replace(recipe.net, trunk=trunk))


def made(system, seed=0, images=1, **changes):
    torch.manual_seed(seed)
    spec = PairSpec(16, 16, CODEC.classes, 48, CODEC.hash, images)
    model = store.create(system, spec, replace(tiny(system), **changes))
    model.codec.adopt(CODEC)
    return model


def pictures(names, seed=0):
    noise = torch.randint(0, 40, (len(names), 1, 16, 16, 3), generator=torch.Generator().manual_seed(seed))
    colours = torch.tensor([COLOURS[name] for name in names])[:, None, None, None]
    return (0.8 * colours + noise).clamp(0, 255).to(torch.uint8)


def rows(names, seed=0):
    valid = torch.ones(len(names), 1, dtype=torch.bool)
    questions = [QUESTION] * len(names)
    return {"images": pictures(names, seed), "images_valid": valid, "prompt": questions, "text": list(names)}


SYSTEMS = ["llava", "smolvlm", "paligemma", "flamingo"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_saved_model_answers_alike(system, tmp_path):
    model = made(system).eval()
    batch = rows(["red", "green", "blue", "red", "red"])
    before = model.loss(batch, rng=seeded(0, 1))["nll"]
    assert before.isfinite()
    store.save(model, tmp_path / "m")
    again = store.load(tmp_path / "m")
    torch.testing.assert_close(again.loss(batch, rng=seeded(0, 1))["nll"], before, rtol=0, atol=0)


@pytest.mark.parametrize("system", ["llava", "paligemma"])
def test_answers_alone_count(system):
    model = made(system)
    ids, counts = model.batch([[Turn(QUESTION, "red")], [Turn(QUESTION, "a longer answer")]])
    said = [model.codec.decode(own[mark]) for own, mark in zip(ids, counts, strict=True)]
    assert said == ["red</s>", "a longer answer</s>"]
    place = ids == model.net.image
    assert place.sum(1).tolist() == [model.each] * 2
    with torch.no_grad():
        h, _ = model.net.read(
            ids[:, :-1],
            model.look(pictures(["red", "blue"])),
            **({"prefix": (counts.cumsum(1) == 0)[:, :-1]} if system == "paligemma" else {}),
        )
        logits = model.net.logits(h)
        expected = torch.nn.functional.cross_entropy(logits[counts[:, 1:]], ids[:, 1:][counts[:, 1:]])
    batch = rows(["red", "blue"]) | {"text": ["red", "a longer answer"]}
    torch.testing.assert_close(model.loss(batch, rng=seeded(0, 1))["nll"], expected)


def test_an_answer_depends_on_its_image_and_learns_it():
    model = made("llava")
    optim = torch.optim.AdamW(model.parameters(), 3e-3)
    names = list(COLOURS) * 4
    for step in range(120):
        optim.zero_grad()
        loss = model.loss(rows(names, step), rng=seeded(0, step))["nll"]
        loss.backward()
        optim.step()
    assert loss < 0.1
    for name in COLOURS:
        seen = Seen(model, pictures([name], 99)[0])
        assert "".join(seen.ask(QUESTION, new=8, rng=torch.Generator(), sampling=GREEDY)) == name


@pytest.mark.parametrize("system", SYSTEMS)
def test_questions_about_an_image_share_what_was_read(system):
    model = made(system, images=2).eval()
    images = pictures(["red", "blue"])[:, 0]
    seen = Seen(model, images)
    assert bool(seen.shared) == (system != "paligemma")
    questions = ["What colour is it?", "Is it red?", "What colour is it?"]
    answers = ["".join(seen.ask(q, new=6, rng=torch.Generator(), sampling=GREEDY)) for q in questions]
    assert answers[0] == answers[2]
    for question, answer in zip(questions, answers, strict=True):
        ids = [*model.first(), *model.asked(Turn(question, images=2))]
        with torch.no_grad():
            ctx, made_ids = model.look(images[None]), []
            for _ in range(6):
                logits = model.net(torch.tensor([[*ids, *made_ids]]), ctx, **{})[0][0, -1]
                if system == "paligemma":
                    prefix = torch.tensor([[True] * len(ids) + [False] * len(made_ids)])
                    h, _ = model.net.read(torch.tensor([[*ids, *made_ids]]), ctx, prefix=prefix)
                    logits = model.net.logits(h)[0, -1]
                made_ids.append(int(logits.argmax()))
                if made_ids[-1] in model.ends():
                    break
        assert answer == model.codec.decode([i for i in made_ids if i not in model.ends()])


@pytest.mark.parametrize("system", ["llava", "flamingo"])
def test_a_prefix_is_not_copied_for_another_question(system):
    model = made(system).eval()
    seen = Seen(model, pictures(["red"])[0])
    first = seen.prefix.branch(40)
    again = seen.prefix.branch(30)
    kept = [layer for layer in first.state.memory.layers if layer is not None]
    assert len(kept) == 2
    for mine, theirs in zip(kept, again.state.memory.layers, strict=True):
        assert mine.keys.data_ptr() == theirs.keys.data_ptr()
        assert mine.buffer is theirs.buffer
    # What is written goes behind the prefix, into the same memory.
    ids = model.asked(Turn(QUESTION))[-4:]
    for thread in (first, again):
        list(thread.answer(ids, new=3, stop=(), rng=torch.Generator(), sampling=GREEDY))
        for mine, after in zip(kept, thread.state.memory.layers, strict=True):
            assert after.keys.data_ptr() == mine.keys.data_ptr()


def test_a_thread_reads_nothing_twice():
    model = made("llava").eval()
    read = []
    model.net.language.register_forward_hook(lambda *_: None)
    original = model.net.language.read_embedded
    model.net.language.read_embedded = lambda x, *a, **k: (read.append(x.shape[1]), original(x, *a, **k))[1]
    thread = Thread(model.decoder, Context.empty(1))
    a, b = model.codec.encode("one two").tolist(), model.codec.encode("three").tolist()
    first = list(thread.answer(a, new=4, stop=(), rng=torch.Generator(), sampling=GREEDY))
    assert thread.length == len(a) + 4
    second = list(thread.answer(b, new=3, stop=(), rng=torch.Generator(), sampling=GREEDY))
    assert sum(read) == len(a) + 4 + len(b) + 3 - 1
    model.net.language.read_embedded = original
    whole = Thread(model.decoder, Context.empty(1))
    assert list(whole.answer([*a, *first, *b], new=3, stop=(), rng=torch.Generator(), sampling=GREEDY)) == second


def test_what_does_not_fit_is_refused():
    model = made("llava", images=2)
    seen = Seen(model, pictures(["red", "blue"])[:, 0])
    with pytest.raises(ValueError, match=r"question: expected 2 markers <image>, one an image, or none, found 1"):
        list(seen.ask("Is <image> red?", new=4, rng=torch.Generator()))
    with pytest.raises(
        ValueError, match=r"text: expected at most \d+ ids with those of its images \(4 an image\), found"
    ):
        list(seen.ask("word " * 200, new=4, rng=torch.Generator()))
    ids = torch.tensor([[model.net.image] * 5, [model.net.image] * 4 + [7]])
    ctx = model.look(pictures(["red", "blue"]))
    with pytest.raises(ValueError, match="images: row 0 has 5 places for their tokens, found 4 tokens"):
        model.net(ids, ctx)
    with pytest.raises(ValueError, match="images: expected tokens for 9 places, found none"):
        model.net(ids, Context.empty(2))


def test_rows_of_one_batch_keep_their_own_images():
    # A row with three places and one with five, of four tokens each, are as many in sum and still wrong.
    model = made("llava")
    place = model.net.image
    ctx = model.look(pictures(["red", "blue"]))
    with pytest.raises(ValueError, match="row 0 has 3 places"):
        model.net(torch.tensor([[place] * 3 + [7, 7], [place] * 5]), ctx)


def test_images_that_a_row_lacks_are_no_tokens():
    model = made("llava", images=2).eval()
    both = pictures(["red", "blue"]).transpose(0, 1)
    valid = torch.tensor([[True, False]])
    ids = torch.tensor([[*model.asked(Turn(QUESTION, images=1))]])
    with torch.no_grad():
        found = model.net(ids, model.look(both, valid))[0]
        torch.testing.assert_close(found, model.net(ids, model.look(both[:, :1]))[0])


def test_what_is_trained_is_chosen():
    model = made("flamingo", trains=("tower", "bridge"))
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name.partition(".")[0] for name in trained} == {"tower", "bridge", "decoder"}
    assert {name for name in trained if name.startswith("decoder")} == {
        name for name, _ in model.named_parameters() if ".gated." in name or name.endswith("net.mark")
    }
    assert not any(
        w.requires_grad for n, w in made("llava", trains=("bridge",)).named_parameters() if "bridge" not in n
    )
    with pytest.raises(ValueError, match="trains: expected a part that is trained, found none"):
        made("llava", trains=())


@pytest.mark.parametrize("system", ["llava", "flamingo"])
def test_adapters_are_trained_on_a_frozen_language_model(system, tmp_path):
    model = made(system, trains=("bridge",), adapters=2)
    language = {n: w for n, w in model.net.language.named_parameters() if ".gated." not in n}
    trained = {name for name, weight in language.items() if weight.requires_grad}
    assert trained == {name for name in language if ".adapter" in name}
    assert len(trained) == 2 * 2 * 6
    model.loss(rows(["red", "green", "blue", "red", "green"]), rng=seeded(0, 1))["nll"].backward()
    assert all(language[name].grad is not None for name in trained if name.endswith("up"))
    with torch.no_grad():
        for name in trained:
            language[name].normal_()
    batch = rows(["red", "green", "blue", "red", "green"])
    expected = model.eval().loss(batch, rng=seeded(0, 1))["nll"]
    store.save(model, tmp_path / "m")
    torch.testing.assert_close(store.load(tmp_path / "m").loss(batch, rng=seeded(0, 1))["nll"], expected)


def test_tiles_are_seen_beside_the_whole():
    torch.manual_seed(0)
    recipe = replace(tiny("llava"), tiles=2)
    model = store.create("llava", PairSpec(32, 32, CODEC.classes, 48, CODEC.hash), recipe)
    model.codec.adopt(CODEC)
    assert model.each == 4 + 4 * (4 + 1)
    images = torch.randint(0, 255, (2, 1, 32, 32, 3), dtype=torch.uint8)
    ctx = model.look(images)
    assert ctx.tokens.shape == (2, model.each, 32)
    batch = rows(["red", "blue"]) | {"images": images}
    model.loss(batch, rng=seeded(0, 1))["nll"].backward()
    assert model.tiles.newline.grad.abs().sum() > 0
    changed = images.clone()
    changed[0, 0, 16:, 16:] = 255 - changed[0, 0, 16:, 16:]
    apart = (model.look(changed).tokens - ctx.tokens).abs().amax(-1)[0]
    # The whole picture, and the last two of the last two rows of the grid.
    seen = (apart[4:].view(4, 5) > 1e-6).nonzero().tolist()
    assert seen == [[2, 2], [2, 3], [3, 2], [3, 3]]
    assert apart[:4].min() > 0


def test_gates_start_at_nothing_and_learn():
    model = made("flamingo", trains=("bridge",))
    gates = [weight for name, weight in model.named_parameters() if name.endswith(".gate")]
    assert len(gates) == 4
    assert all(float(gate.detach()) == 0 for gate in gates)
    model.loss(rows(["red", "green", "blue", "red", "green"]), rng=seeded(0, 1))["nll"].backward()
    assert all(float(gate.grad.abs()) > 0 for gate in gates)


SAID = [Turn(QUESTION, name) for name in (*COLOURS, *COLOURS) * 3]


def test_examples_show_two_names_equally_often():
    order, conversations, heard = Shots(4, renamed=1.0, asked=2).gathered(SAID, seeded(0, 1))
    assert order.shape == (3, 6)
    assert heard == [[False] * 4 + [True] * 2] * 3
    for own, turns in zip(order.tolist(), conversations, strict=True):
        assert len(set(own)) == 6
        named = {(SAID[i].answer, turn.answer) for i, turn in zip(own, turns, strict=True)}
        assert len(named) == len(dict(named)) == len({name for _, name in named}) == 2
        assert sorted(Counter(turn.answer for turn in turns[:4]).values()) == [2, 2]
        assert {name for _, name in named} <= set(kept_names(False))
    kept, trained = kept_names(True), kept_names(False)
    assert set(kept).isdisjoint(trained)
    assert {name[0] for name in kept} == {name[0] for name in trained}
    assert {name[1:] for name in kept} == {name[1:] for name in trained}


def test_copying_answers_half_of_the_prompts():
    prompts = explained(SAID, 4, 400, kept_names(True), seeded(0, 1))
    assert {copied(prompt.turns) for prompt in prompts} == {(0.5, 0.5)}
    # Nor does it help to say what stands at one place: within four standard deviations of 400 draws.
    for place in range(4):
        right = sum(prompt.turns[place].answer == prompt.turns[-1].answer for prompt in prompts)
        assert abs(right - 200) < 40
    orders = {tuple(turn.answer == prompt.turns[-1].answer for turn in prompt.turns[:4]) for prompt in prompts}
    assert len(orders) == 6
    assert len({turn.answer for prompt in prompts for turn in prompt.turns}) > 100


def test_exchanged_images_say_of_no_name_what_it_means():
    swapped = Counter()
    for prompt in explained(SAID, 4, 100, kept_names(True), seeded(0, 1)):
        rows = crossed(prompt, torch.rand(4, generator=seeded(0, *prompt.rows)).tolist())
        assert sorted(rows) == sorted(prompt.rows)
        assert rows[-1] == prompt.rows[-1]
        shown = Counter((turn.answer, SAID[row].answer) for turn, row in zip(prompt.turns[:4], rows, strict=False))
        assert sorted(shown.values()) == [1] * 4
        swapped.update(i for i in range(4) if rows[i] != prompt.rows[i])
    assert all(25 <= swapped[i] <= 75 for i in range(4))


def test_names_are_for_two_answers_with_rows_enough():
    turns = [Turn(QUESTION, name) for name in ("red",) * 3 + ("blue",) * 2]
    assert explained(turns, 4, 5, kept_names(True), seeded(0, 1)) == []
    order, conversations, heard = Shots(4, renamed=1.0).gathered(turns, seeded(0, 1))
    assert heard == [[True] * 5]
    assert [turn.answer for turn in conversations[0]] == [turns[i].answer for i in order[0].tolist()]
    with pytest.raises(ValueError, match=r"shots\.examples: expected an even number, .* found 3"):
        Shots(3)
    with pytest.raises(ValueError, match=r"shots\.asked: expected at least 1, found 0"):
        Shots(asked=0)


def test_rows_that_ask_the_same_come_together():
    turns = [Turn("a" if i % 2 else "b", str(i)) for i in range(12)]
    order, made_rows, heard = Shots(2, renamed=0.0).gathered(turns, seeded(0, 1))
    assert order.shape == (4, 3)
    assert [len({turn.question for turn in row}) for row in made_rows] == [1] * 4
    assert [[turns[i].answer for i in own] for own in order.tolist()] == [[t.answer for t in row] for row in made_rows]
    assert heard == [[True] * 3] * 4
    with pytest.raises(ValueError, match="batch: expected at least the 3 rows of one conversation, found 2"):
        Shots(2).gathered(turns[:2], seeded(0, 1))


def test_the_loss_of_made_up_names_is_of_what_is_asked():
    model = made("flamingo", shots=Shots(2, renamed=1.0))
    _, counts = model.batch([[Turn(QUESTION, "bab")] * 3])
    kept = _answers_that_count(counts, [[False, False, True]])
    assert int(kept.sum()) * 3 == int(counts.sum())
    assert not kept[0, : -len(model.said("bab"))].any()
    assert model.loss(rows(["red", "red", "blue", "blue"]), rng=seeded(0, 1))["nll"].isfinite()


def test_wordings():
    assert PLAIN.asked(Turn("Why?", images=2)) == "<image><image>Why?\n"
    assert CHAT.asked(Turn("", images=1)).startswith("<|im_start|>user\n<image>Describe the image.<|im_end|>")
    assert Wording().asked(Turn("<image> or <image>?", images=2)) == "<image> or <image>?"
    with pytest.raises(ValueError, match=r"wording\.image: expected a text with <image>"):
        Wording(image="picture")


def test_shuffled_tokens_keep_their_places():
    # Tokens numbered row by row; a block's rows come first, then its columns.
    x = torch.arange(16.0)[None, :, None]
    assert pixel_shuffled(x, 2)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    with pytest.raises(ValueError, match="whose side 3 divides, found 16 tokens"):
        pixel_shuffled(x, 3)
    assert Projector(1, shuffle=4).tokens(1024) == 64


def test_a_whole_prefix_sees_what_follows_in_it():
    torch.manual_seed(0)
    net = Prefix(llama(32, 2, 2, 48), whole=True).build_tokens(length=32, classes=50, context=ContextSpec(token=32))
    ids = torch.randint(0, 50, (1, 6))
    prefix = torch.tensor([[True] * 4 + [False] * 2])
    with torch.no_grad():
        before = net.read(ids, Context.empty(1), prefix=prefix)[0]
        changed = ids.clone()
        changed[0, 3] = (changed[0, 3] + 1) % 50
        after = net.read(changed, Context.empty(1), prefix=prefix)[0]
        assert ((after - before).abs().amax(-1)[0] > 1e-4).all()
        changed = ids.clone()
        changed[0, 5] = (changed[0, 5] + 1) % 50
        after = net.read(changed, Context.empty(1), prefix=prefix)[0]
    assert (after - before).abs().amax(-1)[0, :5].max() == 0


def test_questions_about_an_image_are_branches_of_one_row():
    model = made("llava", net=Prefix(llama(32, 2, 2, 48)), trains=("tower", "bridge", "language"))
    colours = ["red", "red", "green", "red", "green", "blue"]
    batch = rows(colours) | {"text": ["red", "yes it is", "green", "warm", "no", "blue"]}
    batch["prompt"] = [QUESTION, "Is it red?", QUESTION, QUESTION, "Is it red?", QUESTION]
    numbers = torch.tensor([list(COLOURS).index(name) for name in colours])
    first = torch.tensor([colours.index(name) for name in colours])
    batch["images"] = batch["images"][first]

    def found(**more):
        model.zero_grad()
        loss = model.loss(batch | more, rng=seeded(0, 1))["nll"]
        loss.backward()
        return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    loss, grads = found()
    joined_loss, joined_grads = found(image_ids=numbers[:, None])
    torch.testing.assert_close(joined_loss, loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(joined_grads, grads, rtol=1e-4, atol=1e-6)
    asked = [model.conversation([Turn(*row)]) for row in zip(batch["prompt"], batch["text"], strict=True)]
    assert sharing(asked, numbers[:, None], model.net.image) == [[0, 1, 3], [2, 4], [5]]
    several = joined(asked, [[0, 1, 3], [2, 4], [5]])
    begun = [int((own == 0).sum()) for own in several.branch]
    assert min(begun[:2]) > model.each  # the images, and what all questions begin with
    assert int((several.branch >= 0).sum()) == sum(len(ids) for ids, _ in asked) - 2 * begun[0] - begun[1]
    marked = [model.conversation([Turn(f"Is it {name}? <image>", "no")]) for name in ("red", "blue")]
    assert sharing(marked, torch.zeros(2, 1), model.net.image) == [[0], [1]]


def test_gradients_are_finite_through_a_deep_language_model_that_begins_with_an_image():
    deep = replace(llama(32, 30, 2, 48), norm=RmsNorm(1e-5))
    model = made("flamingo", trunk=deep, trains=("tower", "bridge"))
    with torch.no_grad():
        for weight in model.net.language.stream.blocks.parameters():
            if weight.dim() == 2:
                weight.mul_(8)  # as large as trained ones
    model.loss(rows(["red", "green", "blue", "red", "red"]), rng=seeded(0, 1))["nll"].backward()
    assert model.net.mark.grad.isfinite().all()
    assert model.net.mark.grad.norm() < 1e4
