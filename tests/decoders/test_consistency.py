import torch
from tests.decoders import gauss
from tests.decoders.tiny import F64, Exact, Mlp
from torch import Tensor, nn

from nextmove.contracts import Context, ContextSpec, normal, seeded, total, uniform
from nextmove.decoders.consistency import Consistency

FLOW_POLICY = {"segments": 2, "eps": 1e-2, "delta": 1e-2, "boundary": 1.0, "time_scale": 99.0, "stop_gradient": False}
EMPTY = Context.empty


def exact(segments: int) -> Exact:
    """The velocity that leads from x at t straight to where the flow is at the end of t's segment."""

    def velocity(x: Tensor, times: Tensor) -> Tensor:
        t = times[:, :, None]
        end = (t * segments).ceil() / segments
        return (gauss.move(x, t, end) - x) / (end - t)

    return Exact(velocity)


def sample(segments: int, steps: int) -> tuple[float, float]:
    config = Consistency(exact(segments), segments=segments, eps=1e-7, time_scale=1.0)
    decoder = config.build(shape=(1, 1), context=ContextSpec())
    return gauss.made(decoder.sample(EMPTY(2), shape=(1, 1), rng=seeded(0), noise=gauss.probe(), steps=steps))


def test_an_exact_model_makes_the_data_in_as_many_steps_as_it_has_segments() -> None:
    for n in 1, 2, 4:
        mean, sd = sample(n, n)
        assert abs(mean - 0.7) < 1e-5
        assert abs(sd - 0.5) < 1e-5


def test_one_step_over_two_segments_shrinks_the_spread() -> None:
    mean, sd = sample(2, 1)
    assert abs(mean - 0.7) < 1e-5
    assert abs(sd - 0.1180) < 1e-4


def test_loss_is_zero_where_paths_cannot_cross() -> None:
    # All data in one point: every path is its own straight flow line, whichever segments t and t + delta lie in.
    point = 0.3
    t = torch.tensor([0.01, 0.2, 0.495, 0.5, 0.6, 0.745, 0.9, 0.995], dtype=F64)
    x, noise = torch.full((8, 2, 3), point, dtype=F64), normal((8, 2, 3), seeded(0)).double()
    net = Exact(lambda x, times: (point - x) / (1 - times[:, :, None]).clamp_min(1e-300))
    for segments in 1, 2, 3:
        for boundary in 0.0, 0.9, 0.995:
            config = Consistency(net, segments=segments, delta=1e-2, boundary=boundary, time_scale=1.0)
            decoder = config.build(shape=(2, 3), context=ContextSpec())
            assert float(total(decoder.loss_at(EMPTY(8), x, t=t, noise=noise))) < 1e-28
            worse = decoder.loss_at(EMPTY(8), x, t=t, noise=noise + 0.1 * x + 0.1)
            assert float(total(worse)) < 1e-28
            assert float(total(decoder.loss_at(EMPTY(8), x + 0.1, t=t, noise=noise))) > 1e-6


class Line(nn.Module):
    """v = a x + b times, in the two parameters a and b."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.6, dtype=F64))
        self.b = nn.Parameter(torch.tensor(0.02, dtype=F64))

    def forward(self, x: Tensor, times: Tensor, ctx: Context) -> Tensor:
        return self.a * x + self.b * times[:, :, None]


class Build:
    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def build(self, **_: object) -> nn.Module:
        return self.module


# Both segments, one time within 1.01 delta of its end, edges, and one whose neighbour passes 1.
TIMES = torch.tensor([0.01, 0.25, 0.4925, 0.497, 0.5, 0.75, 0.995], dtype=F64)


def by_hand(a: float, b: float, a_r: float, b_r: float, x: Tensor, noise: Tensor) -> float:
    """FlowPolicy's loss of `Line`, one number at a time; a_r and b_r are the target's parameters."""
    losses = []
    for i, t in enumerate(TIMES.tolist()):
        r, end = min(t + 1e-2, 1.0), 0.5 if t <= 0.5 else 1.0
        entries = []
        for x1, e in zip(x[i].flatten().tolist(), noise[i].flatten().tolist(), strict=True):
            x_t, x_r, x_end = (s * x1 + (1 - s) * e for s in (t, r, end))
            v_t, v_r = a * x_t + b * 99 * t, a_r * x_r + b_r * 99 * r
            f_r = x_r + (end - r) * v_r if r < 1 else x_end
            alike = (v_t - v_r) ** 2 if end - t > 1.01e-2 else 0.0
            entries.append((x_t + (end - t) * v_t - f_r) ** 2 + 1e-5 * alike)
        losses.append(sum(entries) / len(entries))
    return sum(losses) / len(losses)


def test_flow_policy_loss_and_gradient_by_hand() -> None:
    x, noise = (normal((7, 2, 2), seeded(i)).double() for i in (1, 2))
    for stop in False, True:
        line = Line()
        config = Consistency(Build(line), **{**FLOW_POLICY, "stop_gradient": stop})
        decoder = config.build(shape=(2, 2), context=ContextSpec())
        loss = total(decoder.loss_at(EMPTY(7), x, t=TIMES, noise=noise))
        assert abs(loss.item() - by_hand(0.6, 0.02, 0.6, 0.02, x, noise)) < 1e-12
        loss.backward()
        d = 1e-6
        moved = [0.0, 0.0] if stop else [d, -d]
        up, down = (by_hand(0.6 + s, 0.02, 0.6 + m, 0.02, x, noise) for s, m in zip((d, -d), moved, strict=True))
        assert abs(line.a.grad.item() - (up - down) / (2 * d)) < 1e-8


def test_weight_leaves_padding_out() -> None:
    x, noise = (normal((7, 2, 2), seeded(i)).double() for i in (1, 2))
    decoder = Consistency(Build(Line())).build(shape=(2, 2), context=ContextSpec())
    keep = torch.tensor([True, False]).expand(7, 2)
    masked = decoder.loss_at(EMPTY(7), x, weight=keep, t=TIMES, noise=noise)
    first = decoder.loss_at(EMPTY(7), x[:, :1], t=TIMES, noise=noise[:, :1])
    for name, value in masked.items():
        torch.testing.assert_close(value, first[name])


def test_both_calls_see_one_dropout_mask() -> None:
    torch.manual_seed(0)
    x = normal((32, 4, 2), seeded(0))
    for stop in False, True:
        config = Consistency(Mlp(dropout=0.5), delta=0.0, boundary=1.0, stop_gradient=stop)
        decoder = config.build(shape=(4, 2), context=ContextSpec())
        before = torch.get_rng_state()
        terms = decoder.loss_at(EMPTY(32), x, t=uniform((32,), seeded(1)), noise=normal(x.shape, seeded(2)))
        assert total(terms).item() == 0.0
        assert not torch.equal(before, torch.get_rng_state())


def test_loss_is_its_twin_with_time_drawn_first() -> None:
    decoder = Consistency(Mlp()).build(shape=(4, 2), context=ContextSpec())
    x, rng = normal((8, 4, 2), seeded(0)), seeded(5)
    drawn = decoder.loss(EMPTY(8), x, weight=None, rng=seeded(5))
    t = uniform((8,), rng) * 0.99 + 0.01
    given = decoder.loss_at(EMPTY(8), x, t=t, noise=normal(x.shape, rng))
    assert drawn == given


def test_autocast_does_not_reach_the_difference() -> None:
    torch.manual_seed(0)
    decoder = Consistency(Mlp(attention=True)).build(shape=(4, 2), context=ContextSpec(vector=3))
    x, vector = normal((8, 4, 2), seeded(0)), normal((8, 3), seeded(1))
    plain = decoder.loss(Context(8, vector=vector), x, weight=None, rng=seeded(5))
    with torch.autocast("cpu", torch.bfloat16):
        under = decoder.loss(Context(8, vector=vector), x, weight=None, rng=seeded(5))
    assert plain == under
