"""The brush: what a stroke over a picture selects. The scene is two walls, one behind the other."""

from __future__ import annotations

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.scene import Gaussians, find_frame
from gs_ssd.scene.masks import Sphere
from gs_ssd.scene.scene import Scene
from gs_ssd.studio.frames import camera_of
from gs_ssd.studio.selection import Selector
from gs_ssd.studio.stroke import Stroke

SIDE, GAP = 41, 0.05
RADIUS = 0.2


def walls() -> Gaussians:
    """Two solid walls of SIDE x SIDE Gaussians across the z axis, at z = 0 and z = 1."""
    line = GAP * (torch.arange(SIDE) - SIDE // 2).float()
    x, y, z = (axis.flatten() for axis in torch.meshgrid(line, line, torch.tensor([0.0, 1.0]), indexing="ij"))
    count = len(x)
    return Gaussians(
        means=torch.stack([x, y, z], dim=1),
        scales=torch.full((count, 3), 0.5 * GAP).log(),
        quats=torch.tensor([1.0, 0, 0, 0]).expand(count, 4).clone(),
        opacities=torch.full((count,), 4.0),
        sh0=torch.zeros(count, 1, 3),
        shN=torch.zeros(count, 0, 3),
    )


@pytest.fixture
def selector() -> Selector:
    gaussians = walls()
    nothing = torch.zeros(len(gaussians), dtype=torch.bool)
    return Selector(Scene(gaussians, find_frame(gaussians), nothing))


@pytest.fixture
def camera():
    """At z = -4, looking along z; its picture, wider than high, shows 3 world units of the front wall's height."""
    return camera_of(
        (0.0, 0.0, -4.0), (1.0, 0.0, 0.0, 0.0), 2 * torch.atan(torch.tensor(1.5 / 4)).item(), 640, 480
    )


def place(x: float, y: float) -> tuple[float, float]:
    """Where the picture shows the point (x, y) of the front wall, in shares of its sides."""
    return 0.5 + x / 4, 0.5 + y / 3


def gap_to(points: torch.Tensor, start: tuple[float, float], end: tuple[float, float]) -> torch.Tensor:
    """Distances [N] of points from the line between two points of the front wall."""
    a, b = (torch.tensor([*point, 0.0]) for point in (start, end))
    along = ((points - a) @ (b - a) / (b - a).square().sum()).clamp(0, 1)
    return (points - a - along[:, None] * (b - a)).norm(dim=1)


def test_a_stroke_takes_what_is_near_its_line_on_the_surface_and_nothing_behind(selector, camera):
    stroke = Stroke(selector, camera, RADIUS / selector.scene.frame.radius, "replace")
    start, end = (-0.6, -0.3), (0.5, 0.4)
    assert stroke.to(*place(*start)) and stroke.to(*place(*end))
    stroke.end()
    means = selector.scene.gaussians.means
    distance, chosen = gap_to(means, start, end), selector.now.chosen
    assert bool(chosen[distance < 0.9 * RADIUS].all())
    assert not bool(chosen[distance > 1.05 * RADIUS].any())
    assert bool((means[chosen][:, 2] == 0).all())


def test_a_stroke_is_seen_while_it_goes_on_and_undone_at_once(selector, camera):
    selector.apply(Sphere((0.8, 0.8, 0.0), 0.15))
    before = selector.now
    stroke = Stroke(selector, camera, RADIUS / selector.scene.frame.radius, "add")
    counts = [before.count]
    for x in (-0.8, -0.5, 0.0, 0.4):
        stroke.to(*place(x, 0.0))
        counts.append(selector.now.count)
    assert sorted(set(counts)) == counts
    assert bool(selector.now.chosen[before.chosen].all())
    whole = selector.now
    assert selector.undo() is before
    assert selector.redo() is whole


def test_a_stroke_may_take_away_or_keep_only_what_it_touches(selector, camera):
    selector.apply(Sphere((0.0, 0.0, 0.0), 0.5))
    old = selector.now.chosen
    for mode, expected in (("subtract", lambda near: old & ~near), ("intersect", lambda near: old & near)):
        stroke = Stroke(selector, camera, RADIUS / selector.scene.frame.radius, mode)
        stroke.to(*place(-0.9, 0.0))
        stroke.to(*place(0.9, 0.0))
        assert torch.equal(selector.now.chosen, expected(stroke.found)) and 0 < selector.now.count < int(
            old.sum()
        )
        selector.undo()


def test_what_is_selected_during_a_stroke_by_another_tool_is_not_lost(selector, camera):
    stroke = Stroke(selector, camera, RADIUS / selector.scene.frame.radius, "add")
    stroke.to(*place(-0.8, 0.0))
    other = selector.apply(Sphere((0.8, 0.8, 0.0), 0.15), "add")
    stroke.to(*place(0.0, 0.0))
    assert bool(selector.now.chosen[other.chosen].all()) and selector.now.count > other.count
    assert selector.undo() is other


def test_over_the_background_a_stroke_takes_nothing_and_says_so(selector, camera):
    stroke, before = Stroke(selector, camera, RADIUS / selector.scene.frame.radius, "replace"), selector.now
    assert not stroke.to(0.01, 0.01) and not stroke.to(-0.5, 3.0) and not stroke.to(0.99, 0.99)
    with pytest.raises(UserError, match="nothing under the brush"):
        stroke.end()
    assert selector.now is before


def test_a_stroke_that_leaves_the_object_goes_on_where_it_returns(selector, camera):
    stroke = Stroke(selector, camera, RADIUS / selector.scene.frame.radius, "replace")
    for x in (0.8, 1.8):  # out to the right
        stroke.to(*place(x, -0.8))
    stroke.to(*place(1.8, 0.8))
    assert not stroke.to(*place(1.5, 0.8)) and stroke.to(*place(0.9, 0.8))
    means = selector.scene.gaussians.means[selector.now.chosen]
    assert float(means[:, 1].min()) < -0.8 and float(means[:, 1].max()) > 0.8
    assert not bool((means[:, 1].abs() < 0.5).any())
