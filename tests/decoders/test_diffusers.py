"""Step-for-step agreement with diffusers 0.42's DDPM, DDIM and DPM-Solver++ schedulers, in float32."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from tests.decoders.oracles import Exact

from nextmove.contracts import Context, ContextSpec, seeded
from nextmove.decoders.diffusion import Diffusion, Sampler
from nextmove.decoders.grids import Indices
from nextmove.decoders.paths import DiscreteVP, betas
from nextmove.decoders.solvers import Ancestral, Ddim, DpmPP, Prediction, plan

NAMES = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
SHAPE = (3, 5, 4)
COMBINATIONS = [
    (100, 10, "squaredcos_cap_v2"),
    (100, 7, "linear"),
    (1000, 12, "scaled_linear"),
    (20, 20, "squaredcos_cap_v2"),
]


def network(x, index):
    """Any bounded function of x and the index."""
    return torch.tanh(1.3 * x.flip(-1) + torch.sin(torch.as_tensor(float(index)))) + 0.2 * x


def compare(scheduler, solver, path, grid, target, n, clip, noises=None, **step_options):
    """Both take every step from the same x with the same answer; where noise is drawn both get the same."""
    scheduler.set_timesteps(n)
    steps = plan(path, target, solver, grid, n)
    assert [round(s.now.timestep) for s in steps] == scheduler.timesteps.tolist()
    x, state, scale = torch.randn(SHAPE, generator=seeded(3)), None, 0.0
    for k, (step, index) in enumerate(zip(steps, scheduler.timesteps, strict=True)):
        noise = torch.randn(SHAPE, generator=seeded(4, k))
        y = network(x, index)
        found, state = solver.step(lambda x, node, y=y: Prediction(x, y, node, target, clip), x, step, state, noise)
        before, x = x, scheduler.step(y, index, x, generator=seeded(4, k), **step_options).prev_sample
        # Near pure noise an unclipped eps implies x1 in the thousands, of which multistep differences cancel most.
        terms = (
            abs(step.c[1]) * Prediction(before, y, step.now, target).x1().abs().max().item()
            if isinstance(solver, DpmPP)
            else 1.0
        )
        torch.testing.assert_close(found, x, rtol=1e-6, atol=1e-6 * max(terms, 1.0))
        scale = max(scale, float(x.abs().max()))
    assert scale > 0.5


@pytest.mark.parametrize(("T", "n", "schedule"), COMBINATIONS)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("target", ["eps", "x0", "v"])
@pytest.mark.parametrize("clip", [0.0, 1.0])
class TestSteps:
    def test_ddpm(self, T, n, schedule, spacing, target, clip):
        options = {"num_train_timesteps": T, "beta_schedule": schedule, "timestep_spacing": spacing}
        scheduler = DDPMScheduler(**options, prediction_type=NAMES[target], clip_sample=bool(clip))
        compare(scheduler, Ancestral(), DiscreteVP(T, schedule), Indices(spacing), target, n, clip)

    def test_ddim(self, T, n, schedule, spacing, target, clip):
        options = {"num_train_timesteps": T, "beta_schedule": schedule, "timestep_spacing": spacing}
        scheduler = DDIMScheduler(**options, prediction_type=NAMES[target], clip_sample=bool(clip))
        for eta, clipped in ((0.0, False), (0.7, True)):
            solver, grid = Ddim(eta, clipped), Indices(spacing, ratio=True)
            compare(
                scheduler,
                solver,
                DiscreteVP(T, schedule),
                grid,
                target,
                n,
                clip,
                eta=eta,
                use_clipped_model_output=clipped,
            )

    def test_dpm(self, T, n, schedule, spacing, target, clip):
        if clip or (n == T and spacing != "trailing"):
            return  # it knows no clip, and cannot count one index more than there are
        options = {"num_train_timesteps": T, "beta_schedule": schedule, "timestep_spacing": spacing}
        for final in ("zero", "sigma_min"):
            scheduler = DPMSolverMultistepScheduler(**options, prediction_type=NAMES[target], final_sigmas_type=final)
            grid = Indices(spacing, spare=True, end="clean" if final == "zero" else "first")
            compare(scheduler, DpmPP(), DiscreteVP(T, schedule), grid, target, n, clip)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("T", [1, 50, 100, 1000])
def test_tables_are_equal_bit_for_bit(T, schedule):
    for zero in (False, True) if T > 1 else (False,):
        scheduler = DDPMScheduler(T, beta_schedule=schedule, rescale_betas_zero_snr=zero)
        path = DiscreteVP(T, schedule, zero_terminal_snr=zero)
        assert torch.equal(betas(path), scheduler.betas)
        t = torch.tensor([path.time(i) for i in range(T)])
        assert torch.equal(path.alpha_bar(t), scheduler.alphas_cumprod)


def test_noising_is_equal_bit_for_bit():
    x, e = torch.randn(4, 8, 2, generator=seeded(0)), torch.randn(4, 8, 2, generator=seeded(1))
    index, path = torch.tensor([0, 17, 64, 99]), DiscreteVP(100)
    node = path.at(1 - (index + 1) / 100, x)
    expected = DDPMScheduler(100, beta_schedule="squaredcos_cap_v2").add_noise(x, e, index)
    assert torch.equal(node.a * x + node.b * e, expected)


def test_large_variance_and_zero_terminal_snr():
    scheduler = DDPMScheduler(100, variance_type="fixed_large")
    compare(scheduler, Ancestral("large"), DiscreteVP(100, "linear"), Indices(), "eps", 20, 1.0)
    scheduler = DDIMScheduler(
        100, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"
    )
    path = DiscreteVP(100, "linear", zero_terminal_snr=True)
    compare(scheduler, Ddim(), path, Indices("trailing", ratio=True), "v", 20, 1.0)


def test_other_endings():
    scheduler = DDIMScheduler(100, set_alpha_to_one=False, steps_offset=1)
    compare(scheduler, Ddim(), DiscreteVP(100, "linear"), Indices(offset=1, ratio=True, end="first"), "eps", 20, 1.0)
    scheduler = DPMSolverMultistepScheduler(100, lower_order_final=False, final_sigmas_type="sigma_min")
    grid = Indices("linspace", spare=True, end="first")
    compare(scheduler, DpmPP(lower_order_final=False), DiscreteVP(100, "linear"), grid, "eps", 8, 0.0)


@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_whole_runs_of_the_decoder(kind):
    decoder = Diffusion(Exact(lambda x, t, ctx: network(x, t[0, 0]))).build(shape=SHAPE[1:], context=ContextSpec())
    noise = torch.randn(SHAPE, generator=seeded(0))
    if kind == "ddpm":
        scheduler, n = DDPMScheduler(100, beta_schedule="squaredcos_cap_v2"), 100
    else:
        scheduler, n = DDIMScheduler(100, beta_schedule="squaredcos_cap_v2"), 10
        decoder = decoder.with_sampler(Sampler(Ddim(), 10, Indices(), clip=1.0))
    scheduler.set_timesteps(n)
    step_noise = torch.stack([torch.randn(SHAPE, generator=seeded(1, k)) for k in range(n)])
    found = decoder.sample(Context.empty(3), shape=SHAPE[1:], rng=seeded(9), noise=noise, step_noise=step_noise)
    x = noise
    for k, index in enumerate(scheduler.timesteps):
        x = scheduler.step(network(x, index), index, x, generator=seeded(1, k)).prev_sample
    torch.testing.assert_close(found, x, rtol=1e-5, atol=1e-5)
