"""Tokenizers of every kind give the ids of transformers; padding, truncation and what is missing are said."""

import copy
import json
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.interop.test_cases import GOLDEN
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from nextmove.codecs.byte_level import byte_tokenizer, train_bpe
from nextmove.codecs.tokenizer import Tokenizer
from nextmove.config import ConfigError

FOLDER = GOLDEN / "tokenizers"
REFERENCE = json.loads((FOLDER / "ids.json").read_text())
NAMES = sorted(REFERENCE["ids"])
PIECES = train_bpe("push the block to the target; fünf Blöcke, 日本語 " * 30, 290)


def golden(name):
    return Tokenizer.open(FOLDER / f"{name}.json")


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_those_of_transformers(name):
    tokenizer = golden(name)
    for text, ids in zip(REFERENCE["texts"], REFERENCE["ids"][name], strict=True):
        assert tokenizer.encode(text, special=True).tolist() == ids, text
    ids, mask = tokenizer.batch(REFERENCE["texts"])
    assert [row[keep].tolist() for row, keep in zip(ids, mask, strict=True)] == REFERENCE["ids"][name]


def test_what_each_kind_is_known_by():
    assert golden("clip").decode(golden("clip").encode("Pick up")) == "pick up "
    assert golden("bert").encode("zzz").tolist() == [golden("bert").id_of("[UNK]")]
    byte = golden("llama").id_of("<0xE6>")
    assert byte in golden("llama").encode("日").tolist()
    assert golden("llama").decode(golden("llama").encode("日 a")).strip() == "日 a"
    assert golden("llama").encode("1234", special=True).tolist()[-4:] == [golden("llama").id_of(c) for c in "1234"]
    for name, kind in (("gpt2", "BPE"), ("bert", "WordPiece"), ("t5", "Unigram")):
        assert json.loads(golden(name).text)["model"]["type"] == kind
    # SmolLM2 splits digits before it looks at bytes.
    split = Backend.from_str(PIECES.text)
    split.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), split.pre_tokenizer])
    assert len(Tokenizer(split.to_str()).encode("x 1234")) == 6


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=100, deadline=None)
def test_a_stream_goes_on_from_what_came_before(before, text):
    tokenizer = byte_tokenizer()
    prompt, ids = tokenizer.encode(before).tolist(), tokenizer.encode(text).tolist()
    assert "".join(tokenizer.stream(ids, prompt)) == text


@given(st.lists(st.integers(0, PIECES.classes - 1), max_size=20), st.integers(0, 20))
@settings(max_examples=200, deadline=None)
def test_a_stream_of_any_ids_is_the_decoded_text_in_parts(ids, cut):
    parts = list(PIECES.stream(ids[cut:], ids[:cut]))
    assert len(parts) == len(ids[cut:]) + 1
    before = PIECES.decode(ids[:cut])
    if not before.endswith("\ufffd"):
        assert before + "".join(parts) == PIECES.decode(ids)


def test_a_piece_at_the_start_keeps_its_blank_behind_a_prompt():
    llama = golden("llama")
    prompt, rest = llama.prompt("pick up").tolist(), llama.encode("the bowl").tolist()
    assert "".join(llama.stream(rest, prompt)) == " the bowl"


def test_padding_and_truncation_are_said():
    tokenizer = byte_tokenizer()
    ids, mask = tokenizer.batch(["abc", ""])
    assert ids.tolist() == [[257, 97, 98, 99, 258], [257, 258, 256, 256, 256]]
    assert mask.tolist() == [[True] * 5, [True, True, False, False, False]]
    left = tokenizer.batch(["abc", "a"], length=6, fixed=True, side="left")
    assert left.ids.tolist() == [[256, 257, 97, 98, 99, 258], [256, 256, 256, 257, 97, 258]]
    # The special tokens stay where a text is cut.
    assert tokenizer.batch(["abcd"], length=4).ids.tolist() == [[257, 97, 98, 258]]
    assert tokenizer.batch(["abcd"], length=4, cut="left").ids.tolist() == [[257, 99, 100, 258]]
    assert tokenizer.batch(["abcd"], length=3, special=False).ids.tolist() == [[97, 98, 99]]
    assert tokenizer.batch(["abcd"], length=6, cut=None).ids.shape == (1, 6)
    assert tokenizer.batch([]).ids.shape == (0, 0)


def test_what_a_file_says_of_padding_and_truncation_is_not_heeded():
    backend = Backend.from_str(PIECES.text)
    backend.enable_padding(length=128, pad_id=7, pad_token="a")
    backend.enable_truncation(4)
    tokenizer = Tokenizer(backend.to_str())
    text = "push the block to the target over and over again"
    assert tokenizer.encode(text).tolist() == PIECES.encode(text).tolist()
    assert tokenizer.pad == 7
    assert tokenizer.batch(["push", "push it there"]).ids[0, -1] == 7


def test_it_is_copied_and_sent_whole():
    for other in (copy.deepcopy(PIECES), pickle.loads(pickle.dumps(PIECES))):
        assert torch.equal(other.encode("push the block"), PIECES.encode("push the block"))
        assert other.hash == PIECES.hash
    assert copy.deepcopy(PIECES).backend is PIECES.backend
    assert not PIECES.state_dict()


def test_a_file_is_read_and_what_is_wrong_with_it_named(tmp_path):
    absent = Tokenizer.absent(290, PIECES.hash)
    assert (absent.classes, absent.hash, absent.files()) == (290, PIECES.hash, {})
    with pytest.raises(ValueError, match=r"its tokenizer\.json is absent"):
        absent.encode("a")
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path.name}: expected tokenizer\.json, found none"):
        absent.read_files(tmp_path)
    path = tmp_path / "tokenizer.json"
    for content, problem in (
        ("{", "expected a tokenizer of the library"),
        (byte_tokenizer().text, "expected the tokenizer of the model, hash "),
    ):
        path.write_text(content)
        with pytest.raises(ConfigError, match=rf"tokenizer\.json: {problem}"):
            absent.read_files(tmp_path)
    path.write_text(PIECES.text)
    with pytest.raises(ConfigError, match="expected at most the 289 ids of the model, found 290"):
        Tokenizer.open(tmp_path, classes=289)
    absent.read_files(tmp_path)
    assert absent.files() == {"tokenizer.json": PIECES.text}
    assert torch.equal(absent.encode("push"), PIECES.encode("push"))
    known = byte_tokenizer()
    with pytest.raises(
        ConfigError, match=r"tokenizer\.json: expected the tokens of the model's tokenizer, found others"
    ):
        known.read_files(tmp_path)
    # Published models have more ids than tokens: a full row of the processor's.
    wide = Tokenizer.open(tmp_path, classes=512)
    assert wide.classes == 512
    assert (
        wide.decode([*PIECES.encode("push").tolist(), 511, 300, *PIECES.encode("it").tolist()]) == "push\ufffd\ufffdit"
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.batch("push"), "texts: expected a list of texts, found one: 'push'"),
        (lambda t: t.batch(["push"], fixed=True), "length: expected 1 or more, found 0"),
        (lambda t: t.batch(["push"], length=2), "length: expected more than the 2 special tokens, found 2"),
        (lambda t: t.batch(["a", "push"], length=4, cut=None), "text: expected at most 4 ids, found 6 in 'push'"),
        (lambda t: t.encode("ab\ud800"), "position 2 has no UTF-8 bytes"),
        (lambda t: t.decode([3, 259]), "x: expected ids of the tokenizer, 0 to 258, found 259"),
        (lambda t: t.id_of("<mask>"), "expected a token '<mask>', found none"),
        (lambda t: t.absent(300, "0").adopt(t), "expected the tokenizer of the model, hash 0, found"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(byte_tokenizer())


def test_a_character_that_would_be_left_out_is_an_error():
    # As in action tokenizers fitted on few symbols: what has no piece disappears without a word.
    few = Backend(models.BPE({"a": 0, "b": 1}, []))
    few.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert few.encode("acb").ids == [0, 1]
    with pytest.raises(ValueError, match="character 'c' at position 1 is not among what the codec knows"):
        Tokenizer(few.to_str()).encode("acb")
