from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from tests.decoders.tiny import Causal, Gru
from torch import Tensor

from nextmove.contracts import Context, ContextSpec, Known, Rows, normal, seeded, uniform
from nextmove.decoders.autoregressive import Autoregressive
from nextmove.decoders.sampling import Sampling

L, K = 7, 5


def built(trunk: Any = Causal(), **options: Any) -> Any:  # noqa: B008
    torch.manual_seed(0)
    config = Autoregressive(trunk, classes=K, **options)
    decoder = config.build(shape=(L,), context=ContextSpec(vector=3))
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.mul_(2.0)
    return decoder.eval()


def context(n: int) -> Context:
    return Context(n, vector=normal((n, 3), seeded(9)))


def ids(n: int, seed: int = 1) -> Tensor:
    return torch.randint(K, (n, L), generator=seeded(seed))


def without_cache(decoder: Any, ctx: Context, noise: Tensor, sampling: Sampling) -> Tensor:
    """The same draws with the whole sequence read anew at every step."""
    read = torch.full((ctx.batch, 1), K)
    for i in range(L):
        logits = sampling.filter(decoder.net(read, ctx, None)[0][:, -1])
        at = (noise[:, i : i + 1].double() >= logits.double().softmax(-1).cumsum(-1)).sum(1, keepdim=True)
        read = torch.cat([read, at], 1)
    return read[:, 1:]


@pytest.mark.parametrize("trunk", [Causal(), Gru()])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.7, 4, 0.9, 0.05), Sampling(temperature=0.0)])
def test_cached_tokens_are_the_uncached(trunk: Any, sampling: Sampling) -> None:
    decoder, ctx = built(trunk), context(64)
    sampled = decoder.sample(ctx, shape=(L,), rng=seeded(3), sampling=sampling)
    assert torch.equal(sampled, without_cache(decoder, ctx, uniform((64, L), seeded(3)), sampling))
    assert len(sampled.unique()) == K


def test_loss_is_the_mean_surprise_in_nats() -> None:
    decoder, ctx, x = built(), context(4), ids(4)
    surprise = torch.zeros(4, L)
    for i in range(L):
        read = torch.cat([torch.full((4, 1), K), x[:, :i]], 1)
        p = decoder.net(read, ctx, None)[0][:, -1].softmax(-1)
        surprise[:, i] = -p.gather(1, x[:, i : i + 1])[:, 0].log()
    torch.testing.assert_close(decoder.log_prob(ctx, x), -surprise)
    torch.testing.assert_close(decoder.loss(ctx, x, weight=None, rng=seeded(0))["nll"], surprise.mean())
    keep = torch.rand(4, L, generator=seeded(5)) < 0.5
    torch.testing.assert_close(decoder.loss_at(ctx, x, weight=keep)["nll"], surprise[keep].mean())
    rows = torch.tensor([[True], [False], [True], [True]])
    torch.testing.assert_close(decoder.loss_at(ctx, x, weight=rows)["nll"], surprise[[0, 2, 3]].mean())
    with pytest.raises(ValueError, match="weight: expected a divisor of 7 columns, found 2"):
        decoder.loss_at(ctx, x, weight=torch.ones(4, 2))


def test_smoothing_mixes_in_the_even_distribution() -> None:
    plain, smooth, ctx, x = built(), built(smoothing=0.1), context(4), ids(4)
    read = torch.cat([torch.full((4, 1), K), x[:, :-1]], 1)
    even = -plain.net(read, ctx, None)[0].log_softmax(-1).mean()
    expected = 0.9 * plain.loss_at(ctx, x)["nll"] + 0.1 * even
    torch.testing.assert_close(smooth.loss_at(ctx, x)["nll"], expected)


def test_samples_have_the_probabilities_of_the_model() -> None:
    decoder, n = built(), 4000
    ctx = context(1).repeat(n)
    first = decoder.sample(ctx, shape=(L,), rng=seeded(0))[:, 0]
    p = decoder.net(torch.full((1, 1), K), context(1), None)[0][0, 0].softmax(-1)
    torch.testing.assert_close(torch.bincount(first, minlength=K) / n, p.detach(), atol=0.03, rtol=0.0)


def known(n: int, positions: list[int], seed: int = 4) -> Known:
    weight = torch.zeros(n, L)
    weight[:, positions] = 1.0
    value = ids(n, seed)
    value[weight == 0] = -7  # what is not known is not looked at
    return Known(value, weight)


def test_a_known_prefix_is_read_in_one_call() -> None:
    decoder, given = built(), known(8, [0, 1, 2])
    x = decoder.sample(context(8), shape=(L,), rng=seeded(0), known=given)
    assert decoder.net.read == [4, 1, 1, 1]
    assert torch.equal(x[:, :3], given.value[:, :3])
    whole = known(8, list(range(L)))
    assert torch.equal(decoder.sample(context(8), shape=(L,), rng=seeded(0), known=whole), whole.value)
    assert len(decoder.net.read) == 4


def test_known_ids_are_kept_wherever_they_stand() -> None:
    decoder, given = built(), known(16, [0, 3, 6])
    given.weight[5, 0] = 0.0  # one row without the prefix
    x = decoder.sample(context(16), shape=(L,), rng=seeded(0), known=given)
    fixed = given.weight > 0
    assert torch.equal(x[fixed], given.value[fixed])
    alone, noise = Context(1, vector=context(16).vector[5:6]), uniform((16, L), seeded(0))[5:6]
    part = Known(given.value[5:6], given.weight[5:6])
    assert torch.equal(decoder.sample(alone, shape=(L,), rng=seeded(1), noise=noise, known=part), x[5:6])
    assert x[5, 0] != 0  # an id of its own, not a filler
    # What follows a forced id is drawn given it: the same as if it had been drawn.
    again = decoder.sample(context(16), shape=(L,), rng=seeded(0), known=Known(x, (torch.arange(L) < 4).expand(16, L)))
    assert torch.equal(again[:, :6], x[:, :6])
    with pytest.raises(ValueError, match=r"known\.value: expected ids from 0 to 4"):
        decoder.sample(context(1), shape=(L,), rng=seeded(0), known=Known(torch.full((1, L), K), torch.ones(1, L)))


def test_constrained_ids_are_never_violated() -> None:
    decoder, n = built(), 200
    allowed = torch.rand(L, K, generator=seeded(2)) < 0.4
    allowed[:, 1] |= ~allowed.any(1)
    for sampling in Sampling(), Sampling(top_k=1), Sampling(temperature=0.0), Sampling(top_p=0.1):
        x = decoder.sample(context(n), shape=(L,), rng=seeded(0), allowed=allowed, sampling=sampling)
        assert bool(allowed[torch.arange(L), x].all())

    def rising(i: int, before: Tensor) -> Tensor:
        least = before[:, -1:] if i else torch.zeros(n, 1)
        return torch.arange(K) >= least

    x = decoder.sample(context(n), shape=(L,), rng=seeded(0), allowed=rising)
    assert bool((x.diff(dim=1) >= 0).all())
    assert bool((x.diff(dim=1) > 0).any())


def test_stream_yields_the_sample_and_rows_are_independent() -> None:
    decoder = built()
    given = known(3, [0, 2])
    whole = decoder.sample(context(3), shape=(L,), rng=Rows([seeded(i) for i in range(3)]), known=given)
    stream = decoder.stream(context(3), shape=(L,), rng=Rows([seeded(i) for i in range(3)]), known=given)
    assert torch.equal(torch.stack(list(stream), 1), whole)
    one = Context(1, vector=context(3).vector[1:2])
    part = Known(given.value[1:2], given.weight[1:2])
    assert torch.equal(decoder.sample(one, shape=(L,), rng=Rows([seeded(1)]), known=part), whole[1:2])
    noise = uniform((3, L), seeded(6))
    drawn = decoder.sample(context(3), shape=(L,), rng=seeded(6))
    assert torch.equal(drawn, decoder.sample(context(3), shape=(L,), rng=seeded(0), noise=noise))


def test_config_is_checked() -> None:
    with pytest.raises(ValueError, match="classes: expected 0 or more, found -1"):
        Autoregressive(Causal(), classes=-1)
    with pytest.raises(ValueError, match=r"shape: expected \(L,\), found \(2, 3\)"):
        Autoregressive(Causal(), classes=K).build(shape=(2, 3), context=ContextSpec())
    with pytest.raises(ValueError, match="classes: expected at least 1, found 0"):
        Autoregressive(Causal()).build(shape=(L,), context=ContextSpec())


@dataclass(frozen=True)
class Bare:
    """`Causal` without a start symbol of its own."""

    def build_tokens(self, *, length: int, classes: int, context: ContextSpec, start: bool) -> Any:
        assert not start
        # The extra row of the smaller network stands for the last class: read, but never predicted.
        return Causal().build_tokens(length=length, classes=classes - 1, context=context)


def test_without_a_start_symbol_the_first_id_is_given() -> None:
    decoder, ctx, x = built(Bare(), start=False), context(4), ids(4).clamp(max=K - 2)
    logits = decoder.net(x[:, :-1], ctx, None)[0]
    surprise = -logits.log_softmax(-1).gather(-1, x[:, 1:, None])[..., 0]
    found = decoder.log_prob(ctx, x)
    torch.testing.assert_close(found[:, 1:], -surprise)
    assert not found[:, 0].any()
    torch.testing.assert_close(decoder.loss_at(ctx, x)["nll"], surprise.mean())
    keep = torch.rand(4, L, generator=seeded(5)) < 0.5
    torch.testing.assert_close(decoder.loss_at(ctx, x, weight=keep)["nll"], surprise[keep[:, 1:]].mean())
    prompt = Known(x, (torch.arange(L) < 2).expand(4, L).float())
    greedy = Sampling(temperature=0.0)
    made = decoder.sample(ctx, shape=(L,), rng=seeded(0), known=prompt, sampling=greedy)
    for i in range(2, L):
        assert torch.equal(made[:, i], decoder.net(made[:, :i], ctx, None)[0][:, -1].argmax(-1))
    with pytest.raises(ValueError, match="known: expected at least the first id of every row, found none"):
        decoder.sample(ctx, shape=(L,), rng=seeded(0))
    with pytest.raises(ValueError, match="ids: expected at least 2"):
        decoder.log_prob(ctx, x[:, :1])


def test_rows_stop_at_their_own_stop_ids() -> None:
    decoder, n = built(), 300
    given = known(n, [0])
    given.value[:, 0] = 2
    plain = decoder.sample(context(n), shape=(L,), rng=seeded(3), known=given)
    made = decoder.sample(context(n), shape=(L,), rng=seeded(3), known=given, stop=(2, 4), pad=1)
    stopped = 0
    for row, whole in zip(made.tolist(), plain.tolist(), strict=True):
        # The given 2 does not count; the first drawn stop id does, and is kept.
        ends = [i for i in range(1, L) if whole[i] in (2, 4)]
        end = ends[0] if ends else L
        assert row[: end + 1] == whole[: end + 1]
        assert row[end + 1 :] == [1] * (L - 1 - end)
        stopped += bool(ends)
    assert 0 < stopped < n
    one = context(1)
    steps = list(decoder.stream(one, shape=(L,), rng=seeded(0), stop=range(K)))
    assert len(steps) == 1
    assert decoder.sample(one, shape=(L,), rng=seeded(0), stop=range(K), pad=3)[0, 1:].tolist() == [3] * (L - 1)


def test_a_window_is_read_anew_from_its_last_half() -> None:
    decoder, n = built(Causal()), 8
    noise = uniform((n, 12), seeded(1))
    made = decoder.sample(context(n), shape=(12,), rng=seeded(0), noise=noise, window=6)
    first = 0
    for i in range(12):
        if 1 + i - first > 6:
            first = i - 2
        read = torch.cat([torch.full((n, 1), K), made[:, first:i]], 1)
        logits = decoder.net(read, context(n), None)[0][:, -1]
        assert torch.equal(made[:, i], Sampling().choose(logits, noise[:, i]))
    assert max(decoder.net.read) == 6
    with pytest.raises(ValueError, match="window: expected 0"):
        decoder.sample(context(1), shape=(3,), rng=seeded(0), window=2)


def test_penalties_see_the_prompt_and_what_was_drawn() -> None:
    decoder = built()
    given = known(50, [0, 1])
    made = decoder.sample(context(50), shape=(L,), rng=seeded(0), known=given, sampling=Sampling(no_repeat=2))
    for row in made.tolist():
        runs = list(pairwise(row))
        assert len(set(runs)) == len(runs)
    own = built(sampling=Sampling(no_repeat=2)).sample(context(50), shape=(L,), rng=seeded(0), known=given)
    assert torch.equal(own, made)
