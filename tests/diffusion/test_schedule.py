"""The noise schedule and the timestep rules against published numbers."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.diffusion.timesteps import DreamTime, DreamTimeV1, Linear, Sqrt, Uniform
from gs_ssd.diffusion.tiny import tiny_parts

SCHEDULE = NoiseSchedule.scaled_linear()
ANNEALED = [Linear(), Sqrt(), DreamTime(), DreamTimeV1()]


@pytest.mark.parametrize(
    "t, alpha_bar",
    [
        (0, 0.999150000),
        (21, 0.980380748),
        (50, 0.951576903),
        (200, 0.753692045),
        (201, 0.752143402),
        (500, 0.276332684),
        (501, 0.274999067),
        (901, 0.014004898),
        (981, 0.005775500),
        (999, 0.004660099),
    ],
)
def test_alpha_bar_of_stable_diffusion(t, alpha_bar):
    assert SCHEDULE.alpha(t) ** 2 == pytest.approx(alpha_bar, abs=5e-10)
    assert SCHEDULE.sigma(t) ** 2 == pytest.approx(1 - alpha_bar, abs=5e-10)


def test_it_is_diffusers_schedule():
    theirs = tiny_parts()["scheduler"]
    assert_close(
        NoiseSchedule.variance_preserving(theirs.alphas_cumprod).alphas, SCHEDULE.alphas, atol=1e-6, rtol=0
    )
    z, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert_close(
        SCHEDULE.add_noise(z, noise, 321),
        theirs.add_noise(z, noise, torch.tensor([321])),
        atol=1e-5,
        rtol=1e-5,
    )


def test_scalars_come_from_float64_whatever_was_given():
    assert (
        NoiseSchedule.variance_preserving(torch.tensor([0.9, 0.5], dtype=torch.float16)).alphas.dtype
        == torch.float64
    )


def test_scales_of_stable_diffusion_are_the_powers_of_its_cumulative_alphas_to_the_bit():
    alpha_bar = tiny_parts()["scheduler"].alphas_cumprod
    schedule = NoiseSchedule.variance_preserving(alpha_bar)
    for t in range(0, 1000, 37):
        a = float(alpha_bar.double()[t])
        assert (schedule.alpha(t), schedule.sigma(t)) == (a**0.5, (1 - a) ** 0.5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_rectified_flow_is_diffusers_schedule(shift):
    from diffusers import FlowMatchEulerDiscreteScheduler

    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    ours = NoiseSchedule.rectified_flow(shift=shift)
    assert_close(ours.sigmas.flip(0).float(), theirs.sigmas[:1000], atol=1e-6, rtol=0)
    assert_close(ours.alphas + ours.sigmas, torch.ones(1000, dtype=torch.float64))
    z, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = theirs.scale_noise(z, theirs.timesteps[[300]], noise)
    assert_close(ours.add_noise(z, noise, 699), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    "step, t", [(0, 981), (1, 980), (250, 821), (500, 661), (750, 501), (1000, 341), (1250, 181), (1499, 21)]
)
def test_linear_is_the_published_table(step, t):
    assert Linear()(step, 1500, SCHEDULE) == t


def test_linear_with_instruct_pix2pix_bounds():
    rule = Linear(ratio_max=0.9, ratio_min=0.2)
    assert (rule(0, 1500, SCHEDULE), rule(1499, 1500, SCHEDULE)) == (901, 201)


@pytest.mark.parametrize("step, t", [(0, 980), (250, 640), (500, 499), (750, 391)])
def test_sqrt_is_hifas_rule(step, t):
    assert Sqrt()(step, 1000, SCHEDULE) == t


@pytest.mark.parametrize(
    "step, t", [(0, 980), (100, 913), (250, 821), (500, 672), (750, 524), (900, 429), (999, 218)]
)
def test_dreamtime_v1_golden(step, t):
    assert DreamTimeV1()(step, 1000, SCHEDULE) == t


@pytest.mark.parametrize(
    "step, t", [(0, 980), (100, 720), (250, 642), (500, 555), (750, 470), (900, 393), (999, 172)]
)
def test_dreamtime_golden(step, t):
    assert DreamTime()(step, 1000, SCHEDULE) == t


@pytest.mark.parametrize(
    "step, t", [(0, 980), (100, 884), (250, 740), (500, 500), (750, 260), (900, 116), (999, 20)]
)
def test_dreamtime_with_a_flat_weight_is_linear(step, t):
    assert DreamTimeV1(m=1000, m2=0)(step, 1000, SCHEDULE) == t


@pytest.mark.parametrize("rule", ANNEALED, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("num_steps", [1, 7, 300, 1500])
def test_annealed_rules_fall_and_stay_inside(rule, num_steps):
    t = [rule(step, num_steps, SCHEDULE) for step in range(num_steps)]
    assert t == sorted(t, reverse=True)
    assert int(1000 * rule.ratio_min) <= t[-1] <= t[0] <= 981


@pytest.mark.parametrize(
    "rule", [Linear(), Sqrt(), DreamTime(), DreamTimeV1(), Uniform()], ids=lambda r: type(r).__name__
)
@pytest.mark.parametrize("bounds", [(1.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_extreme_bounds_give_valid_timesteps(rule, bounds):
    rule = type(rule)(ratio_max=bounds[0], ratio_min=bounds[1])
    assert all(1 <= rule(step, 50, SCHEDULE) <= 999 for step in range(50))


def test_uniform_covers_its_bounds_and_follows_the_generator():
    rule = Uniform(ratio_max=0.024, ratio_min=0.02)
    drawn = [rule(0, 1, SCHEDULE, torch.Generator().manual_seed(seed)) for seed in range(60)]
    assert set(drawn) == {20, 21, 22, 23, 24}
    assert drawn == [rule(0, 1, SCHEDULE, torch.Generator().manual_seed(seed)) for seed in range(60)]
