"""Room for another outline, with a prior that knows the truth: a ball that is to be larger, smaller or only red."""

import math
from dataclasses import replace

import pytest
import torch

from gs_ssd.diffusion.gaussian_prior import GaussianPrior
from gs_ssd.edit.hull import Hull, lattice
from gs_ssd.edit.trainable import LearningRates
from gs_ssd.errors import UserError
from gs_ssd.guidance import SSD
from gs_ssd.render import render
from gs_ssd.render.coverage import coverage
from gs_ssd.scene import Gaussians, OrbitViews
from gs_ssd.scene.frame import SceneFrame
from gs_ssd.scene.gaussians import SH_C0
from gs_ssd.scene.scene import Scene
from gs_ssd.session.edit import SceneEdit
from gs_ssd.session.prompts import Prompts

SIZE = 48
GREY, BLUE, RED, GREEN = (
    torch.tensor(colour) for colour in ([0.5, 0.5, 0.5], [0.1, 0.2, 0.9], [0.9, 0.1, 0.1], [0.4, 0.55, 0.45])
)
VIEWS = {"count": 12, "fov_degrees": (45.0, 45.0), "distance": (1.0, 1.0), "target_jitter": 0.0}
FRAME = SceneFrame(center=torch.zeros(3), up=torch.tensor([0.0, 0.0, 1.0]), radius=0.7)
FAST = LearningRates(means=1e-5, means_final=1e-6, scales=1e-4, quats=1e-4, opacities=0.3, sh0=0.05)


def ball(radius: float, colour: torch.Tensor, count: int = 500) -> Gaussians:
    """An opaque sphere, the same from everywhere."""
    turn = torch.arange(count) * math.pi * (3 - math.sqrt(5))
    z = 1 - 2 * (torch.arange(count) + 0.5) / count
    ring = (1 - z**2).sqrt()
    return Gaussians(
        means=radius * torch.stack([ring * turn.cos(), ring * turn.sin(), z], dim=1),
        scales=torch.full((count, 3), math.log(1.6 * radius / math.sqrt(count))),
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        opacities=torch.full((count,), 4.0),
        sh0=((colour - 0.5) / SH_C0).expand(count, 1, 3).clone(),
        shN=torch.zeros(count, 0, 3),
    )


def layers(radius: float) -> Gaussians:
    """A ball in a shell, as a head in its hair."""
    shell, inner = ball(radius, BLUE), ball(0.6 * radius, BLUE, count=700)
    return Gaussians(*(torch.cat(pair) for pair in zip(shell.tensors().values(), inner.tensors().values())))


def scene(radius: float = 0.4, editable: torch.Tensor | None = None) -> Scene:
    return Scene(
        gaussians=(made := layers(radius)),
        frame=FRAME,
        editable=torch.ones(len(made), dtype=torch.bool) if editable is None else editable,
        background=tuple(GREY.tolist()),
        name="ball",
        views=VIEWS,
    )


def cameras():
    return OrbitViews(FRAME, SIZE, SIZE, **{k: v for k, v in VIEWS.items() if k != "count"}).sample(
        6, torch.Generator().manual_seed(1)
    )[0]


def prior(radius: float, *, source: float = 0.4) -> GaussianPrior:
    """The blue ball of radius `source`, and a red one."""
    look = cameras()[0]
    said = {"blue": ball(source, BLUE), "red": ball(radius, RED)}
    pictures = {
        name: render(each, look, background=GREY).rgb[0].permute(2, 0, 1) for name, each in said.items()
    }
    return GaussianPrior({"": pictures["blue"], **pictures})


def edit(
    radius: float, num_steps: int = 30, *, editable: torch.Tensor | None = None, **settings
) -> SceneEdit:
    own = {"guidance": SSD(w_p=1, w_e=0, w_id=0), "rates": FAST, "anchors": None, "densifier": None}
    own |= {"hull": Hull(views=8, spacing=0.03, reach=0.12)} | settings
    return SceneEdit(
        scene(editable=editable), Prompts("blue", "red"), prior=prior(radius), num_steps=num_steps, **own
    )


def finished(run: SceneEdit):
    for _ in run:
        pass
    return run.finish()


def overlap(gaussians: Gaussians, radius: float) -> float:
    """Intersection over union of the outlines of a scene and of a ball."""
    first, second = (
        coverage(each, torch.ones(len(each), dtype=torch.bool), cameras()) > 0.5
        for each in (gaussians, ball(radius, RED))
    )
    return ((first & second).sum() / (first | second).sum()).item()


@pytest.mark.parametrize("radius", [0.55, 0.25])
def test_an_outline_that_is_to_grow_or_shrink_does(radius):
    before = overlap(layers(0.4), radius)
    without = overlap(finished(edit(radius, 15, hull=None)).after, radius)
    result = finished(edit(radius, 15))
    assert overlap(result.after, radius) > max(before, without) + 0.15
    assert (len(result.after) > len(result.before)) == (radius > 0.4)


def test_a_target_of_the_backdrops_colour_is_not_taken_for_one_that_is_gone():
    """As marble before a grey wall: all that is asked for looks like the backdrop."""
    run = edit(0.4)
    blue = render(ball(0.4, BLUE), cameras()[0], background=GREY).rgb[0].permute(2, 0, 1)
    run.canvas.prior = GaussianPrior({"": blue, "blue": blue, "red": GREY.view(3, 1, 1).expand_as(blue)})
    assert run.settings["hull"].shape(run.canvas) == (0, 0)


def disc(radius: float, height: float, colour: torch.Tensor, count: int = 900) -> Gaussians:
    """An opaque level disc about the vertical axis."""
    flat, turn = ball(1.0, colour, count), torch.arange(count) * math.pi * (3 - math.sqrt(5))
    ring = radius * ((torch.arange(count) + 0.5) / count).sqrt()
    means = torch.stack([ring * turn.cos(), ring * turn.sin(), torch.full_like(ring, height)], dim=1)
    return replace(
        flat, means=means, scales=torch.full((count, 3), math.log(1.2 * radius / math.sqrt(count)))
    )


def beside(first: Gaussians, second: Gaussians) -> Gaussians:
    return Gaussians(*(torch.cat(pair) for pair in zip(first.tensors().values(), second.tensors().values())))


@pytest.mark.parametrize(
    "grown, before, after",
    [
        (0.25, disc(0.6, -0.25, BLUE), disc(0.6, -0.25, RED)),  # a collar, asked for in another colour
        (0.34, ball(4.0, GREEN), ball(4.0, GREEN)),  # a wall
    ],
)
def test_other_clothes_are_not_taken_for_what_grows_before_them(grown, before, after):
    """A ball above shoulders, as a head: what the prompt makes of these is nothing that stands before them."""
    views = VIEWS | {"elevation_degrees": (10.0, 10.0)}
    look = OrbitViews(FRAME, SIZE, SIZE, **{k: v for k, v in views.items() if k != "count"}).sample(
        1, torch.Generator().manual_seed(1)
    )[0]
    source, target = beside(ball(0.25, BLUE), before), beside(ball(grown, BLUE), after)
    blue, red = (render(each, look, background=GREY).rgb[0].permute(2, 0, 1) for each in (source, target))
    run = SceneEdit(
        replace(scene(), gaussians=source, views=views, editable=torch.arange(len(source)) < 500),
        Prompts("blue", "red"),
        prior=GaussianPrior({"": blue, "blue": blue, "red": red}),
        num_steps=1,
        hull=Hull(views=8, spacing=0.03, reach=0.12),
    )
    assert (run.settings["hull"].shape(run.canvas)[0] > 0) == (grown > 0.25)


@pytest.mark.parametrize(
    "views, full, empty, filled",
    [
        (6, 1, 0, False),
        (6, 2, 0, True),
        (24, 2, 0, False),
        (24, 4, 0, True),
        (24, 4, 2, False),
        (24, 12, 2, True),
    ],
)
def test_a_place_is_filled_that_enough_views_see_full_and_few_empty(views, full, empty, filled):
    """What two of many views ask for at the edge of their pictures is no shape."""
    assert Hull().filled(torch.tensor([full]), torch.tensor([empty]), views).tolist() == [filled]


def test_nothing_faint_is_left_and_the_source_is_as_it_was():
    run = edit(0.55)
    source = run.before.clone()
    result = finished(run)
    assert len(run.trainable) > len(result.after) > len(source)  # some grew, some did not
    assert torch.sigmoid(result.after.opacities).min() >= 0.1
    assert len(result.origin) == len(result.editable_after) == len(result.after)
    assert result.origin.max() < len(source)
    for name, value in source.tensors().items():
        assert torch.equal(value, run.before.tensors()[name])


def test_a_source_that_is_faint_somewhere_keeps_that():
    run = edit(0.55, hull=Hull(views=8, spacing=0.03, reach=0.12, least=0.999))
    kept = run.settings["hull"].kept(run.trainable)
    assert kept.all() and len(kept) == len(run.before)


def test_an_outline_that_stays_is_left_alone_to_the_bit():
    results = [finished(edit(0.4, 6, **own)).after for own in ({}, {"hull": None}, {"hull": Hull()})]
    for name, value in results[0].tensors().items():
        assert all(torch.equal(value, other.tensors()[name]) for other in results[1:]), name


def test_what_is_masked_stays_and_nothing_grows_on_it():
    upper = layers(0.4).means[:, 2] > 0
    run = edit(0.55, editable=upper)
    extent, result = run.trainable.extent, finished(run)
    frozen = ~result.editable_after
    assert torch.equal(result.origin[frozen], (~upper).nonzero()[:, 0])
    for name, value in result.before[~upper].tensors().items():
        assert torch.equal(value, result.after[frozen].tensors()[name]), name
    own = result.after.means[result.editable_after]
    assert upper[result.origin[result.editable_after]].all()
    assert len(own) > upper.sum() and own.norm(dim=1).max() > 0.5  # it grew
    others = torch.cdist(own, result.before.means[~upper]).amin(dim=1)
    mine = torch.cdist(own, result.before.means[upper]).amin(dim=1)
    assert (others > torch.minimum(mine, torch.tensor(1.8 * 0.03 * extent))).all()


@pytest.mark.parametrize("stop", [1, 7])
def test_a_resumed_edit_is_filled_once_and_ends_in_the_same_bytes(stop, tmp_path):
    whole, part = edit(0.55, 12), edit(0.55, 12)
    ended = finished(whole).after
    for _ in range(stop):
        next(part)
    part.save_checkpoint(tmp_path)
    resumed = SceneEdit.resume(tmp_path, scene=scene(), prior=prior(0.55))
    for name, value in finished(resumed).after.tensors().items():
        assert torch.equal(value, ended.tensors()[name]), name


@pytest.mark.parametrize("views, asked", [(8, 8), (100, 12), (0, 0)])
def test_the_predictions_are_those_of_the_cameras_that_there_are(views, asked):
    run = edit(0.55, 1, hull=Hull(views=views, spacing=0.1, reach=0.12))
    assert run.finish().asked == 0
    assert finished(run).asked == 2 * asked


def test_a_place_is_filled_once():
    run = edit(0.55)
    assert run.settings["hull"].shape(run.canvas)[0] > 0
    count = len(run.trainable)
    assert run.settings["hull"].shape(run.canvas) == (0, 0) and len(run.trainable) == count


def test_places_lie_around_and_neither_on_nor_far_away(monkeypatch):
    means = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
    others = means[:1] + 0.3
    places, nearest, spacing = lattice(means, others, 0.05, 0.2)
    distances = torch.cdist(places, means)
    closest = distances.amin(dim=1)
    assert spacing == 0.05 and closest.max() <= 0.2 + 1e-6 and closest.min() >= 0.025 - 1e-6
    torch.testing.assert_close(distances.gather(1, nearest[:, None])[:, 0], closest)
    to_others = torch.cdist(places, others)[:, 0]
    assert not ((to_others < closest - 1e-6) & (to_others < 0.1 - 1e-6)).any()
    monkeypatch.setattr("gs_ssd.edit.hull.MOST_CELLS", 1000)
    assert len(lattice(means, others, 0.05, 0.2)[0]) <= 1000  # never more than memory holds


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"views": -1}, r"hull\.views=-1 must be"),
        ({"ratio": 1.0}, r"hull\.ratio=1\.0 must be"),
        ({"opacity": 0.0}, r"hull\.opacity=0\.0 must be"),
        ({"spacing": 0.0}, r"hull\.spacing=0\.0 must be"),
        ({"contrast": 1.5}, r"hull\.contrast=1\.5 must be"),
    ],
)
def test_values_that_are_none_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Hull(**settings)


def test_what_is_made_from_nothing_has_no_outline_to_leave():
    with pytest.raises(
        UserError, match=r"hull\.views=8 asks about a source, and there is none; set hull\.views=0"
    ):
        SceneEdit(scene(), Prompts(None, "red"), prior=prior(0.5), hull=Hull(views=8))
