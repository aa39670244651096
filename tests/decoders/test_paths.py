import math

import pytest
import torch
from tests.decoders.oracles import MU, SD, flow, ideal

from nextmove.decoders.paths import VE, VP, Cosine, DiscreteVP, Linear, betas
from nextmove.decoders.targets import to_u

F64 = torch.float64
CONTINUOUS = [Linear(), Cosine(), VP(), VE()]


@pytest.mark.parametrize("path", CONTINUOUS)
def test_derivatives_are_those_of_a_and_b(path):
    t = torch.linspace(0.05, 0.95, 19, dtype=F64, requires_grad=True)
    for f, df in ((path.a, path.da), (path.b, path.db)):
        value = f(t).sum()
        exact = torch.autograd.grad(value, t)[0] if value.requires_grad else torch.zeros_like(t)
        torch.testing.assert_close(df(t), exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("path", CONTINUOUS)
def test_ends_are_noise_and_data(path):
    ends = torch.tensor([0.0, 1.0], dtype=F64)
    assert path.b(ends)[1] == 0
    assert path.a(ends)[1] == 1
    noise = {Linear: (0, 1), Cosine: (0, 1), VE: (1, 80)}.get(type(path))
    if noise:
        assert (float(path.a(ends)[0]), float(path.b(ends)[0])) == noise
    else:
        assert float(path.a(ends)[0]) == pytest.approx(math.exp(-5.025))


@pytest.mark.parametrize("path", CONTINUOUS)
def test_time_of_inverts_lam(path):
    t = torch.linspace(0.02, 0.98, 25, dtype=F64)
    torch.testing.assert_close(path.time_of(path.lam(t)), t, rtol=0, atol=1e-10)


@pytest.mark.parametrize("path", [Cosine(), VP(), DiscreteVP(), DiscreteVP(1000, "linear")])
def test_variance_preserving(path):
    t = torch.linspace(0, 1, 33, dtype=F64)
    torch.testing.assert_close(path.a(t).double() ** 2 + path.b(t).double() ** 2, torch.ones(33, dtype=F64))
    assert path.vp


@pytest.mark.parametrize("path", [Linear(), Cosine(), VP(), VE(3.0)])
def test_exact_gaussian_flow_has_the_exact_velocity(path):
    x, t, h = torch.tensor([0.9, -0.4, 1.3], dtype=F64), 0.37, 1e-5
    slope = (flow(path, t, t + h, x) - flow(path, t, t - h, x)) / (2 * h)
    torch.testing.assert_close(ideal("velocity", x, path.node(t)), slope, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("path", [Linear(), Cosine(), VP(), VE(3.0)])
def test_velocity_is_the_closed_form(path):
    x, n = torch.tensor([0.9, -0.4, 1.3], dtype=F64), path.node(0.6)
    s2 = n.a**2 * SD**2 + n.b**2
    exact = n.da * MU + (n.a * n.da * SD**2 + n.b * n.db) / s2 * (x - n.a * MU)
    for target in ("eps", "x0", "v", "velocity"):
        torch.testing.assert_close(to_u(target, x, ideal(target, x, n), n), exact)


def test_tables_hold_the_published_numbers():
    cosine, long, linear = DiscreteVP(100), DiscreteVP(1000), DiscreteVP(1000, "linear")
    assert float(betas(cosine)[0]) == pytest.approx(6.313e-4, rel=1e-3)
    assert float(betas(cosine)[-1]) == pytest.approx(0.999)
    first = torch.tensor([0.0])
    assert float(cosine.alpha_bar(first)) == pytest.approx(2.429e-7, rel=1e-3)
    assert float(long.alpha_bar(first)) == pytest.approx(2.429e-9, rel=1e-3)
    assert float(linear.alpha_bar(first)) == pytest.approx(4.036e-5, rel=1e-3)
    assert linear.node(linear.time(0)).a2 == pytest.approx(0.9999)


@pytest.mark.parametrize("T", [1, 7, 100, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_index_and_time_are_inverse(T, dtype):
    path = DiscreteVP(T)
    index = torch.arange(-1, T)
    t = torch.tensor([path.time(int(i)) for i in index], dtype=dtype)
    assert torch.equal(path.index(t), index)
    assert torch.equal(path.timestep(t), index.to(dtype))
    assert path.node(path.time(T - 1)).timestep == T - 1
    assert path.node(1.0).a2 == 1
    assert path.node(0.0).timestep == T - 1


def test_zero_terminal_snr_ends_in_pure_noise_and_keeps_the_first_level():
    plain, rescaled = DiscreteVP(1000, "scaled_linear"), DiscreteVP(1000, "scaled_linear", zero_terminal_snr=True)
    assert rescaled.node(0.0).a2 == 0
    assert rescaled.node(rescaled.time(0)).a2 == pytest.approx(plain.node(plain.time(0)).a2)


def test_timestep_is_scaled_time_or_edm_noise():
    assert Linear().node(0.25).timestep == 250
    assert Cosine(time_scale=99.0).node(0.5).timestep == 49.5
    assert Linear(1.0, reverse=True).node(0.25).timestep == 0.75, "pi0 tells its network how much noise there is"
    path = VE(time_scale=1.0)
    assert path.node(1 - 0.5 / 80).timestep == pytest.approx(math.log(0.5) / 4)
    sigma = torch.tensor([0.002, 1.0, 80.0])
    torch.testing.assert_close(VE().sigma_of(VE().timestep(1 - sigma.double() / 80)), sigma.double())


def test_table_first_read_under_inference_mode_still_trains():
    path = DiscreteVP(13)
    with torch.inference_mode():
        path.a(torch.tensor([0.5]))
    w = torch.ones(1, requires_grad=True)
    (w * path.a(torch.tensor([0.5]))).sum().backward()
