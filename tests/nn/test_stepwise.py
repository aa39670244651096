"""RT-1's transformer: steps are answered in one pass, each by what was seen until then and by no other answer."""

from __future__ import annotations

import pytest
import torch

from nextmove.contracts import Context, ContextSpec, normal, seeded
from nextmove.nn.stepwise import Stepwise, StepwiseNet

T, S, M, K, W = 3, 2, 4, 5, 8
SPEC = ContextSpec(token=W, tokens=T * S)


def net(spec: ContextSpec = SPEC, **options: object) -> StepwiseNet:
    torch.manual_seed(0)
    config = Stepwise(steps=T, width=16, layers=2, heads=2, **options)  # type: ignore[arg-type]
    return config.build(shape=(T * M, 0), out=K, times=0, context=spec).eval()


def context(seed: int = 1, steps: int = T) -> Context:
    return Context(2, tokens=normal((2, steps * S, W), seeded(seed)))


def answers(of: StepwiseNet, ctx: Context, steps: int = T) -> torch.Tensor:
    return of(torch.empty(2, steps * M, 0), None, ctx)


def test_places_see_what_was_seen_and_no_place() -> None:
    mask = net().mask(T)
    seen = torch.arange(T * (S + M)) % (S + M) < S
    assert mask[~seen][:, ~seen].sum() == 0
    assert torch.equal(mask[:, seen], torch.ones(T * (S + M), T * (S + M)).tril().bool()[:, seen])
    assert torch.equal(mask[seen], torch.ones(T * (S + M), T * (S + M)).tril().bool()[seen])


def test_an_answer_depends_on_no_later_step() -> None:
    own, ctx = net(), context()
    whole = answers(own, ctx).view(2, T, M, K)
    later = ctx.replace(tokens=torch.cat([ctx.tokens[:, : 2 * S], -ctx.tokens[:, 2 * S :]], 1))  # type: ignore[index]
    changed = answers(own, later).view(2, T, M, K)
    torch.testing.assert_close(changed[:, :2], whole[:, :2])
    assert not torch.allclose(changed[:, 2], whole[:, 2], atol=1e-4)
    # The beginning of an episode, of fewer steps, is answered as the beginning of the window.
    short = answers(own, ctx.replace(tokens=ctx.tokens[:, :S]), 1)  # type: ignore[index]
    torch.testing.assert_close(short, whole[:, 0])


def test_the_first_answer_is_read_off_the_last_token_shown() -> None:
    own, found = net(), {}
    own.stream.register_forward_hook(lambda module, args, output: found.update(h=output[0]))
    y = answers(own, context()).view(2, T, M, K)
    h = found["h"].view(2, T, S + M, 16)
    torch.testing.assert_close(y, own.head(h[:, :, S - 1 : S + M - 1]))


def test_weights_of_past_actions_are_kept_and_never_trained() -> None:
    own = net(embedding=True)
    answers(own, context()).sum().backward()
    assert own.action is not None
    assert own.action.weight.shape == (W, K)
    assert [name for name, p in own.named_parameters() if p.grad is None] == ["action.weight", "action.bias"]
    assert not own.action.weight.requires_grad


def test_a_state_is_one_more_token_of_its_step() -> None:
    own = net(ContextSpec(vector=T * 3, token=W, tokens=T * S))
    state = normal((2, T * 3), seeded(3))
    ctx = context().replace(vector=state)
    whole = answers(own, ctx).view(2, T, M, K)
    changed = answers(own, ctx.replace(vector=torch.cat([state[:, :-3], -state[:, -3:]], 1))).view(2, T, M, K)
    torch.testing.assert_close(changed[:, :2], whole[:, :2])
    assert not torch.allclose(changed[:, 2], whole[:, 2], atol=1e-4)


def test_what_does_not_fit_is_named() -> None:
    config = Stepwise(steps=T, width=16, layers=1, heads=2)
    for shape, times, spec, message in (
        ((T * M, 2), 0, SPEC, "trunk: expected a decoder of one call"),
        ((T * M, 0), 1, SPEC, "trunk: expected a decoder of one call"),
        ((T * M, 0), 0, ContextSpec(vector=4), "context.tokens: expected a multiple of 3 steps"),
        ((T * M, 0), 0, ContextSpec(token=W, tokens=4), "context.tokens: expected a multiple of 3 steps"),
        ((T * M + 1, 0), 0, SPEC, "shape: expected a length that 3 observed steps divide, found 13"),
    ):
        with pytest.raises(ValueError, match=message):
            config.build(shape=shape, out=K, times=times, context=spec)
    with pytest.raises(ValueError, match=r"context.tokens: expected \(6, 8\) of at most 3 steps"):
        answers(net(), context(steps=2))
    with pytest.raises(ValueError, match="of at most 3 steps, found"):
        answers(net(), context(steps=4), 4)
