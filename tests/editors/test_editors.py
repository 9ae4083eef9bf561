"""The 2D editors against what is known in closed form: identities, Gaussians, inversion and back."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from gs_ssd.diffusion.gaussian_prior import GaussianPrior
from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.editors import DDIMInversion, FlowEdit, InstructPix2Pix, SDEdit, Task
from gs_ssd.editors.base import ddim_move, levels
from gs_ssd.errors import UserError
from gs_ssd.guidance import DDS, Step, encode_prompts
from tests.guidance.stub import PROMPTS, SHAPE, Stub

SCHEDULES = [NoiseSchedule.scaled_linear(), NoiseSchedule.rectified_flow(shift=3.0)]


def gaussian(std: float, schedule: NoiseSchedule) -> GaussianPrior:
    """Two prompts whose means differ by (0.3, -0.2, 0.1), and the empty one between them."""
    change = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64).reshape(3, 1, 1).expand(3, 4, 4)
    grey = torch.full((3, 4, 4), 0.5, dtype=torch.float64)
    return GaussianPrior({"a": grey, "b": grey + change, "": grey + change / 2}, std=std, schedule=schedule)


def task(prior, *, target: str = "b", source: str = "a", seed: int = 0) -> Task:
    z = 0.5 + 0.1 * torch.randn(
        2, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    text = encode_prompts(prior, target=target, source=source)
    return Task(prior, z, z, text, None, lambda g: torch.randn(z.shape, generator=g, dtype=z.dtype))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def half_way(prior, edit, strength: float, count: int) -> torch.Tensor:
    """(X_y − X_ŷ)(1 − τ/√(τ² + s_t²)): where Gaussians of deviation τ lead."""
    top = levels(count, strength, prior.schedule)[0]
    s = prior.schedule.sigma(top) / prior.schedule.alpha(top)
    return (prior.means[1] - prior.means[0]) * (1 - prior.std / (prior.std**2 + s**2) ** 0.5)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["vp", "flow"])
@pytest.mark.parametrize(
    "editor", [FlowEdit(s=1, s_src=1), DDIMInversion(s=1, strength=0.6)], ids=lambda e: e.name
)
def test_between_gaussians_a_picture_moves_by_the_closed_form(editor, schedule):
    prior = gaussian(0.4, schedule)
    job = task(prior)
    z, _ = editor.edit(job, count=1000, generator=generator())
    expected = job.z_src + half_way(prior, editor, editor.strength, 1000)
    assert_close(z, expected, atol=4e-3, rtol=0)
    assert (z - job.z_src).abs().max() > 0.1


def test_flowedit_between_points_is_exact_in_any_number_of_moves():
    prior = gaussian(0.0, SCHEDULES[0])
    job = task(prior)
    z, _ = FlowEdit(s=1, s_src=1).edit(job, count=3, generator=generator())
    assert_close(z, job.z_src + prior.means[1] - prior.means[0])


def test_flowedit_with_equal_prompts_leaves_the_picture():
    prior = Stub()
    z = torch.randn(SHAPE, generator=generator(), dtype=torch.float64)
    text = encode_prompts(prior, target="source", source="source")
    job = Task(prior, z, z, text, None, lambda g: torch.randn(z.shape, generator=g, dtype=z.dtype))
    after, _ = FlowEdit(s=3.5, s_src=3.5).edit(job, count=7, generator=generator())
    assert torch.equal(after, z)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["vp", "flow"])
def test_inversion_and_generation_under_one_prompt_give_the_picture_back(schedule):
    prior = gaussian(0.4, schedule)
    job = task(prior, target="a")
    errors = []
    for count in (20, 200):
        z, _ = DDIMInversion(s=1, strength=0.8).edit(job, count=count, generator=generator())
        errors.append((z - job.z_src).abs().max().item())
    assert errors[1] < 0.03 and errors[1] < errors[0] / 4  # Euler's error falls with the moves


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["vp", "flow"])
def test_a_move_of_flowedit_is_the_difference_of_two_ddim_moves(schedule):
    """And on a rectified flow, the authors' Euler step along the difference of two velocities."""
    prior = gaussian(0.4, schedule)
    job, editor = task(prior), FlowEdit(s=2.0, s_src=1.5)
    moves = editor.moves(5, schedule)
    state = {"z": job.z_src + 0.05}
    move = moves[1]
    after = editor.advance(job, state, move, generator())["z"]
    noise = job.draw(generator())
    source = schedule.add_noise(job.z_src, noise, move.now)
    target = source + schedule.alpha(move.now) * (state["z"] - job.z_src)
    e = [job.guided(target, move.t, "target", 2.0), job.guided(source, move.t, "source", 1.5)]
    ends = [ddim_move(z, eps, schedule, move.now, move.to)[0] for z, eps in zip((target, source), e)]
    assert_close(after, job.z_src + (ends[0] - ends[1]) / schedule.alpha(move.to))
    if schedule.is_flow:
        v = [(eps - z) / schedule.alpha(move.now) for z, eps in zip((target, source), e)]
        z_path = job.z_src + schedule.alpha(move.now) * (state["z"] - job.z_src)
        z_path = z_path + (schedule.sigma(move.to) - schedule.sigma(move.now)) * (v[0] - v[1])
        assert_close(z_path - job.z_src, schedule.alpha(move.to) * (after - job.z_src))


def test_flowedit_is_dds_by_descent_at_the_rate_of_its_levels():
    prior = Stub()
    z_src = torch.randn(SHAPE, generator=generator(), dtype=torch.float64)
    text = encode_prompts(prior, target="target", source="source")
    schedule, editor = prior.schedule, FlowEdit(s=4.0, s_src=4.0)
    job = Task(
        prior, z_src, z_src, text, None, lambda g: torch.randn(SHAPE, generator=g, dtype=torch.float64)
    )
    flow, _ = editor.edit(job, count=6, generator=generator())
    z, draws = z_src.clone(), generator()
    for move in editor.moves(6, schedule):
        noise = torch.randn(SHAPE, generator=draws, dtype=torch.float64)
        step = Step(z, z_src, noise, move.now, schedule, text)
        ratio = [0.0 if t is None else schedule.sigma(t) / schedule.alpha(t) for t in (move.now, move.to)]
        z = z - (ratio[0] - ratio[1]) * DDS(s=4.0)(prior, step)
    assert_close(flow, z)


def test_sdedit_draws_the_target_and_forgets_with_strength():
    prior = gaussian(0.0, SCHEDULES[0])
    z, count = SDEdit(s=1, strength=0.9).edit(task(prior), count=4, generator=generator())
    assert_close(z, prior.means[1].expand_as(z))
    assert count == 4


def test_instruct_pix2pix_guides_text_and_picture():
    prior = Stub(takes_image=True)
    z = torch.randn(SHAPE, generator=generator(), dtype=torch.float64)
    text = encode_prompts(prior, target="target", source="source")
    job = Task(prior, z, z, text, 0.3 * z, lambda g: torch.randn(SHAPE, generator=g, dtype=torch.float64))
    editor = InstructPix2Pix(s=7.5, s_i=1.5)
    move = editor.moves(5, prior.schedule)[2]
    none, image, words = (
        prior.predict_noise(z, move.t, text[name].expand(2), picture)
        for name, picture in (("null", 0 * z), ("null", 0.3 * z), ("target", 0.3 * z))
    )
    expected = none + 1.5 * (image - none) + 7.5 * (words - image)
    assert_close(editor.predict(job, z, move), expected)


@pytest.mark.parametrize(
    "editor",
    [
        SDEdit(),
        SDEdit(s=1),
        DDIMInversion(),
        FlowEdit(),
        FlowEdit(s=1, s_src=1),
        FlowEdit(draws=2),
        InstructPix2Pix(),
    ],
    ids=lambda e: f"{e.name}-{e.s}",
)
def test_the_reported_evaluations_are_those_of_the_prior(editor):
    prior = Stub(takes_image=editor.takes_image)
    z = torch.randn(SHAPE, generator=generator(), dtype=torch.float64)
    text = encode_prompts(prior, target=PROMPTS[0], source=PROMPTS[1])
    image = z if editor.takes_image else None
    job = Task(prior, z, z, text, image, lambda g: torch.randn(SHAPE, generator=g, dtype=torch.float64))
    _, count = editor.edit(job, count=6, generator=generator())
    assert sum(prior.batches) == count * SHAPE[0]


def test_levels_fall_to_clean_and_never_leave_the_schedule():
    for schedule in SCHEDULES:
        found = levels(10, 1.0, schedule)
        assert found[-1] is None and found[:-1] == sorted(found[:-1], reverse=True)
        assert schedule.alpha(found[0]) >= 0.02
    assert levels(4, 0.5, SCHEDULES[0]) == [499, 374, 249, 124, None]


def test_bad_settings_are_named():
    with pytest.raises(UserError, match="strength"):
        SDEdit(strength=1.5).moves(5, SCHEDULES[0])
    with pytest.raises(UserError, match="steps=1: ddim_inversion"):
        DDIMInversion().moves(1, SCHEDULES[0])
    with pytest.raises(UserError, match="instruct_pix2pix and diffusion stub"):
        InstructPix2Pix().prepare(Stub())
    with pytest.raises(UserError, match="to generate, use nfsd"):
        FlowEdit().check_generation(Stub())
