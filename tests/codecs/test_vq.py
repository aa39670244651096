"""Vector quantisation: the codebook's rules against loops, gradients against formulas, ids in raster order."""

import math

import pytest
import torch
from torch import Tensor, nn

from nextmove.codecs.vq import Averaged, Learnt, Vq, nearest_ids, perplexity
from nextmove.contracts import normal, seeded, uniform


def vectors(seed: int = 0, B: int = 3, D: int = 2, h: int = 2, w: int = 3) -> Tensor:
    return normal((B, D, h, w), seeded(seed))


def as_rows(z: Tensor) -> list[list[float]]:
    return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1]).tolist()


def closest(row: list[float], codes: list[list[float]]) -> int:
    distances = [sum((a - b) ** 2 for a, b in zip(row, code, strict=True)) for code in codes]
    return distances.index(min(distances))


def averaged(**options) -> nn.Module:
    torch.manual_seed(0)
    return Averaged(classes=4, width=2, **options).build()


def test_nearest_is_the_first_of_the_closest():
    codes = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert nearest_ids(torch.tensor([[0.9, 0.1], [0.1, 0.3], [0.5, 0.0]]), codes).tolist() == [1, 0, 0]


def test_running_means_are_the_loops():
    book = averaged(restart=0.0, decay=0.9)
    codes, counts = book.codes.tolist(), [1.0] * 4
    sums = [list(code) for code in codes]
    for step in range(3):
        z = vectors(step)
        ids = [closest(row, codes) for row in as_rows(z)]
        quantised, found, _ = book(z, seeded(step))
        assert found.flatten().tolist() == ids
        assert as_rows(quantised) == [pytest.approx(codes[i], abs=1e-6) for i in ids]
        for k in range(4):
            mine = [row for row, i in zip(as_rows(z), ids, strict=True) if i == k]
            counts[k] = 0.9 * counts[k] + 0.1 * len(mine)
            for d in range(2):
                sums[k][d] = 0.9 * sums[k][d] + 0.1 * sum(row[d] for row in mine)
        smooth = [(n + 1e-5) / (sum(counts) + 4e-5) * sum(counts) for n in counts]
        codes = [[m / n for m in total] for total, n in zip(sums, smooth, strict=True)]
        assert book.codes.tolist() == [pytest.approx(code, rel=1e-5, abs=1e-6) for code in codes]
    assert book.counts.tolist() == pytest.approx(counts, rel=1e-5)
    assert int(book.calls) == 3


def test_codes_out_of_use_restart_at_vectors_of_the_batch():
    book = averaged(restart=1.0)
    with torch.no_grad():
        book.codes.copy_(torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0], [-50.0, 0.0]]))
        book.sums.copy_(book.codes)
    z = vectors()
    book(z, seeded(5))
    rows = torch.tensor(as_rows(z))
    drawn = rows[(uniform((4,), seeded(5)) * len(rows)).long()]
    assert torch.equal(book.codes[1:], drawn[1:])
    assert torch.equal(book.sums[1:], drawn[1:])
    assert book.counts[1:].tolist() == [1.0] * 3
    count = 0.99 + 0.01 * len(rows)
    assert book.counts[0].item() == pytest.approx(count)
    torch.testing.assert_close(book.codes[0], 0.01 * rows.sum(0) / count, rtol=1e-4, atol=1e-6)


def test_judging_leaves_the_codebook_alone():
    book = averaged().eval()
    before = {k: v.clone() for k, v in book.state_dict().items()}
    book(vectors(), seeded(0))
    assert all(torch.equal(v, before[k]) for k, v in book.state_dict().items())


@pytest.mark.parametrize("make", [Averaged(4, 2, restart=0.0), Learnt(4, 2)])
def test_the_gradient_passes_straight_through(make):
    book = make.build()
    z, pull = vectors().requires_grad_(), vectors(9)
    quantised, ids, terms = book(z, seeded(0))
    (slope,) = torch.autograd.grad((quantised * pull).sum(), z, retain_graph=True)
    assert torch.equal(slope, pull)
    code = (quantised - z + z).detach()
    (slope,) = torch.autograd.grad(terms["commitment"], z, retain_graph=True)
    torch.testing.assert_close(slope, 0.25 * 2 * (z.detach() - code) / z.numel(), rtol=1e-4, atol=1e-6)
    assert terms["commitment"].item() == pytest.approx(0.25 * (z - code).square().mean().item(), rel=1e-5)
    assert ids.shape == (3, 6)


def test_learnt_codes_move_by_their_own_term_only():
    torch.manual_seed(0)
    book = Learnt(4, 2).build()
    nn.init.normal_(book.codes)
    z = vectors().requires_grad_()
    quantised, ids, terms = book(z, seeded(0))
    assert torch.autograd.grad(terms["commitment"] + quantised.sum(), book.codes, allow_unused=True)[0] is None
    slope, idle = torch.autograd.grad(terms["codebook"], [book.codes, z], allow_unused=True)
    assert idle is None
    rows, expected = torch.tensor(as_rows(z.detach())), torch.zeros(4, 2)
    for row, k in zip(rows, ids.flatten().tolist(), strict=True):
        expected[k] += 2 * (book.codes.detach()[k] - row) / rows.numel()
    torch.testing.assert_close(slope, expected)
    assert terms["codebook"].item() == pytest.approx(4 * terms["commitment"].item())
    assert int(book.calls) == 1


def test_perplexity_counts_the_codes_in_use():
    assert perplexity(torch.arange(6).view(2, 3), 6).item() == pytest.approx(6)
    assert perplexity(torch.zeros(2, 3).long(), 6).item() == pytest.approx(1)
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert perplexity(torch.tensor([0, 0, 0, 5]), 6).item() == pytest.approx(expected)


class Told(nn.Module):
    """An image (B, 1, h, w) as one vector a pixel and back."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def vq(trained: bool = True) -> Vq:
    """The codes are the centres of five levels, so that nothing is lost."""
    book = Averaged(classes=5, width=1).build()
    book.codes.copy_((torch.arange(5.0)[:, None] + 0.5) * 0.4 - 1)
    book.calls += trained
    return Vq(levels=5, encoder=Told(), codebook=book, decoder=Told(), grid=(2, 3))


def test_ids_are_in_raster_order_and_come_back():
    codec, ids = vq(), torch.tensor([[0, 1, 2, 3, 4, 0], [4, 4, 3, 2, 1, 0]])
    image = ids.view(2, 1, 2, 3) / 4
    assert torch.equal(codec.encode(image), ids)
    assert torch.equal(codec.encode(image, seeded(0)), ids)
    torch.testing.assert_close(codec.decode(ids), image)
    assert (codec.classes, codec.length) == (5, 6)


def test_what_was_never_trained_does_not_encode():
    with pytest.raises(ValueError, match="expected a trained tokenizer, found one that has seen no image"):
        vq(trained=False).encode(torch.zeros(1, 1, 2, 3))


def test_ids_that_are_none_are_refused():
    with pytest.raises(ValueError, match="x: expected ids from 0 to 4, found 0 to 5"):
        vq().decode(torch.tensor([[0, 1, 2, 3, 4, 5]]))
    with pytest.raises(ValueError, match=r"x: expected ids \(B, 6\), found \(1, 5\)"):
        vq().decode(torch.zeros(1, 5).long())
    with pytest.raises(ValueError, match="z: expected width 2 of the 4 codes, found 3"):
        averaged()(vectors(D=3), seeded(0))
