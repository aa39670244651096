"""BLIP: what its parts share, what each loss teaches, captions and matches of a tiny model trained on colours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.models.tiny_blip import TINY, batch, pictures, tiny, trained

from nextmove import store
from nextmove.contracts import Shard, seeded
from nextmove.models.vision_language.blip_model import BlipModel


def test_reader_and_writer_share_all_but_self_attention_and_head() -> None:
    model = tiny()
    assert model.reader is not None
    shared = {id(p) for p in model.reader.parameters()} & {id(p) for p in model.writer.parameters()}
    apart = {name for name, p in model.writer.text.named_parameters() if id(p) not in shared}
    assert {name.split(".", 3)[-1].split(".")[0] for name in apart if name.startswith("stream")} == {
        "attention",
        "attention_branch",
    }
    assert {name.split(".")[0] for name in apart} == {"stream", "words"}


def test_momentum_and_queue_move_in_training_only() -> None:
    model = tiny()
    assert model.contrast is not None
    before = {name: value.clone() for name, value in model.contrast.named_buffers()}
    model.eval().loss(batch(), rng=seeded(0))
    assert all(torch.equal(before[name], value) for name, value in model.contrast.named_buffers())
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1)
    terms = model.train().loss(batch(), rng=seeded(0))
    assert terms.keys() == {"contrast", "matching", "caption"}
    after = dict(model.contrast.named_buffers())
    assert int(after["queue.place"]) == 4
    assert int(after["steps"]) == 1
    name = "follower.copies.image.embed.bias"
    torch.testing.assert_close(after[name], before[name] + 0.01)
    assert not any(name.startswith("contrast.follower") for name, _ in model.named_parameters())


def test_every_part_learns() -> None:
    model = tiny().train()
    sum(model.loss(batch(), rng=seeded(0)).values()).backward()  # type: ignore[union-attr]
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


def test_a_part_of_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="blip: expected a whole batch in one process, found a part of one"):
        tiny().loss(batch(), rng=Shard(seeded(0), 0, 2))


@pytest.fixture(scope="module", name="trained")
def made() -> BlipModel:
    return trained()


def test_it_names_finds_and_judges_colours(trained: BlipModel) -> None:
    texts = batch()["text"]
    for beams in (1, 3):
        assert trained.caption(pictures(), beams=beams) == texts
    assert all(text.startswith("a green ") for text in trained.caption(pictures(), prompt="a green"))
    similar = trained.compare(trained.embed_images(pictures()), trained.embed_texts(texts))
    assert similar.argmax(1).tolist() == similar.argmax(0).tolist() == [0, 1, 2, 3]
    assert bool((trained.matches(pictures(), texts) > 0.9).all())
    assert bool((trained.matches(pictures(), texts[1:] + texts[:1]) < 0.1).all())


def test_a_saved_one_is_the_same(trained: BlipModel, tmp_path: Any) -> None:
    store.save(trained, tmp_path)
    again = store.load(tmp_path)
    assert again.caption(pictures()) == trained.caption(pictures())
    torch.testing.assert_close(again.embed_images(pictures()), trained.embed_images(pictures()))
    assert again.reader.stream.blocks[0].cross is again.writer.text.stream.blocks[0].cross


def test_parts_that_a_model_lacks_are_named(trained: BlipModel) -> None:
    writer, reader = tiny(replace(TINY, reads=False)), tiny(replace(TINY, writes=False))
    assert writer.train().loss(batch(), rng=seeded(0)).keys() == {"caption"}
    assert reader.train().loss(batch(), rng=seeded(0)).keys() == {"contrast", "matching"}
    with pytest.raises(ValueError, match="expected one that compares images and texts"):
        writer.embed_images(pictures())
    with pytest.raises(ValueError, match="expected one that writes captions"):
        reader.caption(pictures())
    with pytest.raises(ValueError, match="new: expected at most 11 ids behind the prompt, found 12"):
        trained.caption(pictures(), new=12)
