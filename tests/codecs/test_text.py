"""Text to ids and back: byte-exact, strict about what it does not know, never half a character."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nextmove.codecs import Text
from nextmove.codecs.byte_level import bpe, train_bpe

CORPUS = "the cat sat on the mat; the cat sat.\n\n\tfünf Bücher, 日本語 and ❤️\r\n" * 20
BPE = train_bpe(CORPUS, 280)
BYTES = Text("bytes")
CHARACTERS = Text.fit("characters", CORPUS)
anything = st.text(st.characters(exclude_categories=["Cs"]))


@given(anything)
@settings(max_examples=200, deadline=None)
def test_any_text_comes_back_from_bytes_and_pieces(text):
    for codec in (BYTES, BPE):
        ids = codec.encode(text)
        assert ids.dtype == torch.long
        assert ids.dim() == 1
        assert codec.decode(ids) == text
        assert "".join(codec.stream(ids.tolist())) == text


@given(st.text(st.sampled_from(sorted(set(CORPUS)))))
@settings(max_examples=100, deadline=None)
def test_text_of_known_characters_comes_back(text):
    ids = CHARACTERS.encode(text)
    assert len(ids) == len(text)
    assert CHARACTERS.decode(ids) == text


@given(st.lists(st.integers(0, 279), max_size=30))
@settings(max_examples=200, deadline=None)
def test_a_stream_of_any_ids_is_the_decoded_text_in_parts(ids):
    parts = list(BPE.stream(ids))
    assert len(parts) == len(ids) + 1
    assert "".join(parts) == BPE.decode(torch.tensor(ids, dtype=torch.long))


def test_a_stream_never_splits_a_character():
    ids = BYTES.encode("a日é").tolist()
    assert list(BYTES.stream(ids)) == ["a", "", "", "日", "", "é", ""]
    assert list(BYTES.stream(ids[:3])) == ["a", "", "", "\ufffd"]


def test_a_codec_is_its_unit_and_vocabulary():
    for codec in (BYTES, CHARACTERS):
        again = Text(codec.unit, codec.vocabulary)
        assert torch.equal(again.encode(CORPUS), codec.encode(CORPUS))
        assert again.classes == codec.classes
        assert not codec.state_dict()
    assert CHARACTERS.vocabulary == tuple(sorted(set(CORPUS)))
    assert BYTES.bytes_of(BYTES.encode("é ")) == "é ".encode()


def test_pieces_are_trained_alike_at_every_call():
    assert train_bpe(CORPUS, 280).hash == BPE.hash
    assert BPE.classes == 280
    assert len(BPE.encode("the cat sat")) < 8
    model = json.loads(BPE.text)["model"]
    assert all("".join(pair) in model["vocab"] for pair in model["merges"])


def test_pieces_are_spelt_and_merged_as_in_gpt2():
    # GPT-2 writes a space as U+0120 and a newline as U+010A; merges apply in their order.
    codec = bpe(("a", "b", "Ġ", "Ċ", "Ġa", "ab", "Ġab", "<|endoftext|>"), ("Ġ a", "a b", "Ġa b"))
    assert codec.encode("ab ab\na").tolist() == [5, 6, 3, 0]
    assert codec.decode(torch.tensor([6, 3, 7])) == " ab\n<|endoftext|>"
    with pytest.raises(ValueError, match="character 'c' at position 3 is not among what the codec knows"):
        codec.encode("ab c")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Text.fit("characters", ""), "corpus: expected text, found none"),
        (lambda: train_bpe("", 300), "corpus: expected text, found none"),
        (lambda: train_bpe("abc", 100), "size: expected at least the 256 bytes, found 100"),
        (lambda: Text("words", ("a",)), "unit: expected bytes or characters, found 'words'"),
        (lambda: Text("bytes", ("a",)), "vocabulary: expected none for bytes"),
        (lambda: Text("characters"), "vocabulary: expected tokens for characters"),
        (lambda: Text("characters", ("a", "bc")), "vocabulary: expected single characters, found 'bc'"),
        (lambda: Text("characters", ("a", "a")), "vocabulary: expected every token once"),
        (lambda: bpe(("a", "a"), ()), "vocabulary: expected every token once"),
        (lambda: bpe(("a", "b"), ("a b",)), "merges: expected pairs of pieces .*, found 'a b'"),
        (
            lambda: CHARACTERS.encode("the ñ"),
            r"character 'ñ' at position 4 is not among what the codec knows \(.* char",
        ),
        (lambda: BYTES.encode("ab\ud800"), "position 2 has no UTF-8 bytes"),
        (lambda: BPE.encode("ab\ud800"), "position 2 has no UTF-8 bytes"),
        (lambda: BYTES.decode(torch.tensor([3, 256])), "x: expected ids from 0 to 255, found 256"),
    ],
)
def test_wrong_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_large_texts_are_looked_up_at_once():
    text = CORPUS * 500
    ids = CHARACTERS.encode(text)
    assert len(ids) == len(text)
    assert CHARACTERS.decode(ids[-70:]) == text[-70:]
