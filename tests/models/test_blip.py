"""BLIP: what its parts share, what each loss teaches, captions and matches of a tiny model trained on colours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nextmove import store
from nextmove.codecs.byte_level import train_captions
from nextmove.contracts import Shard, seeded
from nextmove.decoders.distilled import Distilled
from nextmove.models.vision_language.blip import Blip
from nextmove.models.vision_language.blip_model import BlipModel
from nextmove.models.vision_language.spec import PairSpec
from nextmove.nn.med import Med
from nextmove.nn.norm import LayerNorm
from nextmove.nn.vit import VisionTower

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
TINY = Blip(
    VisionTower(16, 8, 32, 2, 2, norm=LayerNorm(1e-6)),
    Med(32, 2, 2),
    space=16,
    contrast=Distilled(momentum=0.9, queue=16, ramp=20),
)


def tiny(recipe: Blip = TINY) -> BlipModel:
    codec = train_captions([f"a {name} square" for name in COLOURS], 280)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: BlipModel = store.create("blip", PairSpec(16, 16, codec.classes, 12, codec.hash), recipe)
    model.codec.adopt(codec)
    return model


def batch() -> dict[str, Any]:
    images = torch.stack([torch.tensor(rgb, dtype=torch.uint8).expand(1, 16, 16, 3) for rgb in COLOURS.values()])
    return {
        "images": images.contiguous(),
        "image_ids": torch.arange(4)[:, None],
        "text": [f"a {name} square" for name in COLOURS],
    }


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


@pytest.fixture(scope="module")
def trained() -> BlipModel:
    model = tiny().train()
    optim = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for step in range(150):
            optim.zero_grad()
            sum(model.loss(batch(), rng=seeded(step)).values()).backward()  # type: ignore[union-attr]
            optim.step()
    return model.eval()


def pictures() -> Tensor:
    return batch()["images"][:, 0]


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
