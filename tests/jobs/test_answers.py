"""Asking and judging models that read images, and talking with language models."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.models.test_reader_models import CODEC, COLOURS, QUESTION, made

from nextmove import jobs, store
from nextmove.codecs.special import with_tokens
from nextmove.config import ConfigError
from nextmove.contracts import Context, seeded
from nextmove.decoders import Autoregressive
from nextmove.decoders.sampling import Sampling
from nextmove.jobs.chat import Chat
from nextmove.jobs.judge_reader import exchanged
from nextmove.models.generator import Generator, TextSpec
from nextmove.models.vision_language.asking import answers
from nextmove.models.vision_language.llava import llama
from nextmove.models.vision_language.shots import copied, kept_names
from nextmove.models.vision_language.wording import Turn


@pytest.fixture
def folder(tmp_path):
    """Plain colours, half of them held out."""
    lines = []
    for i in range(24):
        name = list(COLOURS)[i % 3]
        picture = np.full((16, 16, 3), COLOURS[name], np.uint8)
        picture[i % 16, 0] = i
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
        split = "held-out" if i >= 12 else "train"
        row = {"image": f"{i}.png", "question": QUESTION, "answer": name, "kind": "colour", "split": split}
        lines.append(json.dumps(row))
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    return tmp_path


def saved(system, folder, tmp_path):
    model = made(system)
    model.facts = {"data": str(folder), "fit": "stretch"}
    return store.save(model, tmp_path / "model", facts=model.facts)


def test_asking_writes_answers(folder, tmp_path, capsys):
    model = saved("llava", folder, tmp_path)
    first, second = jobs.ask(model, (folder / "0.png", QUESTION), also=("Why?",), length=6)
    assert capsys.readouterr().out == f"{first}\n{second}\n"
    assert jobs.ask(model, (folder / "0.png", "Why?"), length=6) == [second]


def test_a_question_without_an_image_is_said(folder, tmp_path, capsys):
    model = saved("llava", folder, tmp_path)
    jobs.ask(model, (folder / "0.png", QUESTION), length=6)
    assert "no image" not in capsys.readouterr().err
    jobs.ask(model, (QUESTION,), length=6)
    assert capsys.readouterr().err == "no image: answered from words alone\n"


def test_what_cannot_be_asked_is_said(folder, tmp_path):
    model = saved("llava", folder, tmp_path)
    with pytest.raises(ValueError, match=r"expected a question behind the images, found the file"):
        jobs.ask(model, (folder / "0.png",))
    with pytest.raises(ValueError, match=r"question: expected 1 markers <image>, one an image, or none, found 2"):
        jobs.ask(model, (folder / "0.png", "<image> or <image>?"))
    with pytest.raises(ValueError, match=r"text: expected at most \d+ ids"):
        jobs.ask(model, (folder / "0.png", "why " * 200))
    with pytest.raises(ValueError, match=r"absent\.png: expected an image, found No such file"):
        jobs.ask(model, (tmp_path / "absent.png", QUESTION))


@pytest.mark.parametrize("system", ["llava", "flamingo"])
def test_a_judgement_counts_what_is_held_out(system, folder, tmp_path, capsys):
    model = saved(system, folder, tmp_path)
    report = jobs.judge_reader(model, length=6, episodes=6)
    assert report["exact"]["of"] == report["with_other_images"]["of"] == 12
    assert report["without_looking"]["right"] == 4
    assert set(report["by_kind"]) == {"colour"}
    assert json.loads((model / "evaluation" / "report.json").read_text())["exact"] == report["exact"]
    assert "data:image/png" in (model / "evaluation" / "report.html").read_text()
    assert ("few_shot" in report) == (system == "flamingo")
    if system == "flamingo":
        assert set(report["gates"].values()) == {0.0}
        assert report["few_shot"]["with"]["of"] == 6
        assert "gates |tanh|, from 0: 0.000" in capsys.readouterr().out


def binder(reader, images, valid, rows, *, new):
    """Says the name of the first example that shows the same colour; without their images that of the first."""
    colours = images.float().mean((2, 3)).argmax(2).tolist()
    return [
        next(
            (turn.answer for turn, colour in zip(row[:-1], own[:-1], strict=False) if colour == own[-1]), row[0].answer
        )
        for row, own in zip(rows, colours, strict=True)
    ]


def copier(reader, images, valid, rows, *, new):
    """Says what the first example says."""
    return [row[0].answer for row in rows]


def few(answering, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["nextmove.jobs.judge_reader"], "answers", answering)
    return jobs.judge_reader(saved("flamingo", folder, tmp_path), episodes=200)["few_shot"]


def test_who_reads_examples_gains_over_copying_them_and_needs_their_images(folder, tmp_path, monkeypatch):
    found = few(binder, folder, tmp_path, monkeypatch)
    assert found["with"]["share"] == 1.0
    for name in ("without", "exchanged"):
        assert found[name]["low"] < 0.5 < found[name]["high"]
    assert found["copying_one"]["share"] == found["copying_commonest"]["share"] == 0.5
    assert all(gain["low"] > 0.3 for gain in found["gain"].values())
    assert found["gain"].keys() == {"without", "exchanged", "copying_one", "copying_commonest"}
    for name, gain in found["gain"].items():
        assert gain["mean"] == pytest.approx(1.0 - found[name]["share"])


def test_who_copies_an_example_gains_nothing_over_copying(folder, tmp_path, monkeypatch):
    found = few(copier, folder, tmp_path, monkeypatch)
    assert found["exchanged"] == found["without"] == found["with"]
    assert found["gain"]["exchanged"] == found["gain"]["without"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert found["gain"]["copying_one"]["low"] < 0 < found["gain"]["copying_one"]["high"]


def test_examples_without_their_images_stay_in_the_prompt(folder, tmp_path, monkeypatch):
    prompts = []

    def kept(reader, images, valid, rows, *, new):
        prompts.extend((images.shape[1], [turn.images for turn in row]) for row in rows if len(row) > 1)
        return [row[0].answer for row in rows]

    few(kept, folder, tmp_path, monkeypatch)
    assert prompts == [(5, [1] * 5)] * 200 + [(1, [0] * 4 + [1])] * 200 + [(5, [1] * 5)] * 200


def test_a_report_shows_what_copying_gets_and_gates(folder, tmp_path, monkeypatch, capsys):
    found = few(binder, folder, tmp_path, monkeypatch)
    said, page = capsys.readouterr().out, (tmp_path / "model" / "evaluation" / "report.html").read_text()
    right, gain = found["copying_one"]["right"], f"{100 * found['gain']['copying_one']['mean']:+.1f} ("
    assert f"made-up names, one of 4 examples copied: {right:g}/200" in said
    assert f"examples gain {gain}" in said
    row = page[page.index("one of 4 examples copied") :].split("</tr>")[0]
    assert f"<td>{right:g}</td><td>200</td>" in row
    assert gain in row
    assert "half of their images exchanged" in page
    assert "Mean |tanh(gate)|" in page


def test_the_table_of_examples_shows_what_they_are_ahead_of_and_gates(folder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    from benchmarks.few_shot import table

    found = few(binder, folder, tmp_path, monkeypatch)
    report = json.loads((tmp_path / "model" / "evaluation" / "report.json").read_text())
    report["gates"] = {"0.attend": 0.0125, "1.attend": 0.25}
    first, *others = table(report, [True] * 30 + [False] * 10)
    assert first[1:4] == ["30/40", "75 %", "60–86 %"]
    shown = {name: cells for name, *cells in others}
    assert shown["4 examples"] == ["200/200", "100 %", "98–100 %", ""]
    assert shown["one of 4 examples copied"][:3] == ["100/200", "50 %", ""]
    gain = found["gain"]["without"]
    assert shown["4 examples without their images"][3] == (
        f"{100 * gain['mean']:+.1f} ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
    )
    assert shown["gates, mean and greatest |tanh|, from 0"][0] == "0.131, 0.250"


def test_text_of_names_keeps_held_out_kinds_and_names_apart(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    from benchmarks.few_shot import prompts, repeats

    kinds, names = {}, {}
    for tested in (True, False):
        lines = [
            [part.strip().rsplit(" ", 1) for part in line.removesuffix(".").split(".")]
            for line in prompts(tested, 300, 0)
        ]
        assert {len(line) for line in lines} == {5 if tested else 12}
        assert all(len({*map(tuple, line)}) == len({kind for kind, _ in line}) == 2 for line in lines)
        said = [part for line in lines for part in line]
        kinds[tested], names[tested] = ({part[i] for part in said} for i in (0, 1))
    assert len(kinds[True]) == 12
    assert kinds[True].isdisjoint(kinds[False])
    assert names[True] <= set(kept_names(True))
    assert names[False] <= set(kept_names(False))
    for line in repeats(20, 0):
        said = line.removesuffix(".").split(".")
        third = len(said) // 3
        assert said == 3 * said[:third]
        assert 4 <= third <= 6
        assert len({part.split()[0] for part in said}) == third
        assert {part.split()[1] for part in said} <= set(kept_names(False))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("abaca", (2 / 4, 1.0)),
        ("ababb", (2 / 4, 1 / 2)),
        ("abbba", (1 / 4, 0.0)),
        ("abcda", (1 / 4, 1 / 4)),
        ("bbcca", (0.0, 0.0)),
    ],
)
def test_copying_an_example_is_counted(said, expected):
    assert copied([Turn(QUESTION, name) for name in said]) == expected


def test_examples_that_cannot_be_halved_are_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"shots: expected a multiple of 4, .* found 6"):
        jobs.judge_reader(saved("flamingo", folder, tmp_path), shots=6)


def test_kinds_that_were_not_learned_are_not_judged(folder, tmp_path):
    lines = (folder / "captions.jsonl").read_text().splitlines()
    more = [json.dumps({"image": "12.png", "text": "a colour", "split": "held-out"})]
    (folder / "captions.jsonl").write_text("\n".join(lines + more))
    model = made("llava")
    facts = {"data": str(folder), "fit": "stretch"}
    judged = [jobs.judge_reader(store.save(model, tmp_path / "all", facts=facts), length=6)]
    judged += [jobs.judge_reader(store.save(model, tmp_path / "one", facts=facts | {"only": ["colour"]}), length=6)]
    assert [set(report["by_kind"]) for report in judged] == [{"caption", "colour"}, {"colour"}]
    assert [report["exact"]["of"] for report in judged] == [13, 12]


def test_exact_answers_are_counted(folder, tmp_path, monkeypatch):
    model = saved("llava", folder, tmp_path)

    def looked(reader, images, valid, rows, *, new):
        best = images[:, 0].float().mean((1, 2)).argmax(1).tolist()
        return [f" {list(COLOURS)[i]}" for i in best]

    monkeypatch.setattr(sys.modules["nextmove.jobs.judge_reader"], "answers", looked)
    report = jobs.judge_reader(model)
    assert report["exact"]["right"] == 12
    assert report["with_other_images"]["right"] < 12


def test_answers_of_several_lengths_keep_their_rows():
    model = made("llava").eval()
    images = torch.randint(0, 255, (3, 1, 16, 16, 3), dtype=torch.uint8)
    valid = torch.ones(3, 1, dtype=torch.bool)
    rows = [[Turn(QUESTION)], [Turn("Why is it so?")], [Turn(QUESTION)]]
    found = answers(model, images, valid, rows, new=5)
    for i in range(3):
        assert found[i] == answers(model, images[i : i + 1], valid[:1], rows[i : i + 1], new=5)[0]


def test_no_row_keeps_its_image():
    order = exchanged(9, seeded(0, 1))
    assert sorted(order.tolist()) == list(range(9))
    assert not (order == torch.arange(9)).any()


@pytest.fixture
def talker():
    """An untrained language model whose tokenizer knows chats."""
    codec = with_tokens(CODEC, ["<|im_start|>", "<|im_end|>"])
    torch.manual_seed(0)
    decoder = Autoregressive(llama(32, 2, 2, 48), classes=codec.classes, start=False)
    from nextmove.contracts import ContextSpec

    built = decoder.build(shape=(160,), context=ContextSpec())
    spec = TextSpec("tokenizer", 160, classes=codec.classes, tokenizer=codec.hash)
    return Generator(spec=spec, codec=codec, decoder=built, shape=(160,)).eval()


def test_a_conversation_is_read_once(talker):
    read = []
    net = talker.tokens.net
    original = net.read_embedded
    net.read_embedded = lambda x, *a, **k: (read.append(x.shape[1]), original(x, *a, **k))[1]
    chat = Chat(talker, system="Be kind.")
    sampling = Sampling(temperature=0.0)
    first = "".join(chat.say("Hello", new=8, rng=seeded(0), sampling=sampling))
    second = "".join(chat.say("And now?", new=8, rng=seeded(0), sampling=sampling))
    # All but the last id written, which nothing follows yet.
    assert sum(read) == chat.length - len(chat.thread.unread)
    net.read_embedded = original
    ended = "<|im_end|>"
    head = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    whole = f"{head}{first}{ended}\n<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n"
    ids = talker.text.encode(whole)
    with torch.no_grad():
        drawn = int(net(ids[None], Context.empty(1))[0][0, -1].argmax())
    assert second.startswith(talker.text.decode([drawn]).replace(ended, ""))


def test_a_conversation_over_the_context_is_refused(talker):
    chat = Chat(talker)
    with pytest.raises(ValueError, match=r"expected at most the 160 ids of the model's context in the whole"):
        chat.say("word " * 200, rng=seeded(0))
    assert chat.length == 0


def test_a_model_without_chats_is_refused():
    from nextmove.contracts import ContextSpec

    decoder = Autoregressive(llama(32, 2, 2, 48), classes=CODEC.classes, start=False)
    built = decoder.build(shape=(64,), context=ContextSpec())
    spec = TextSpec("tokenizer", 64, classes=CODEC.classes, tokenizer=CODEC.hash)
    plain = Generator(spec=spec, codec=CODEC, decoder=built, shape=(64,))
    with pytest.raises(ValueError, match="expected one that was trained on chats"):
        Chat(plain)


def test_training_begins_with_a_language_model(folder, tmp_path, talker):
    from tests.models.test_reader_models import tiny

    from nextmove.jobs.languages import begin_language, speaking
    from nextmove.models.vision_language.spec import PairSpec

    for system in ("llava", "flamingo"):
        recipe = speaking(tiny(system), talker, "it")
        codec = talker.text
        model = store.create(system, PairSpec(16, 16, codec.classes, 48, codec.hash), recipe)
        model.codec.adopt(codec)
        own = model.net.language.embedding.weight
        begin_language_from = begin_language
        assert not torch.equal(own, talker.tokens.net.embedding.weight)
        with pytest.raises(FileNotFoundError):
            begin_language_from(model, talker, tmp_path / "absent")
        assert torch.equal(own, talker.tokens.net.embedding.weight)
        assert model.ends() == (codec.id_of("<|im_end|>"),)
