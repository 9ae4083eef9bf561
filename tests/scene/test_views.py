"""Orbits look at the object, upright and centred; random views follow their ranges and their generator."""

from __future__ import annotations

import math

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.scene import Cameras, FixedViews, OrbitViews, SceneFrame, find_frame, load_gaussians, orbit
from gs_ssd.scene.frame import AXES, axis_vector
from gs_ssd.scene.views import camera_extent, training_views
from tests.scene.layouts import SCENES

CENTER = torch.tensor([1.0, 2.0, 3.0])


def frame(up: str = "-y", radius: float = 2.0) -> SceneFrame:
    return SceneFrame(CENTER, axis_vector(up), radius)


def project(cameras: Cameras, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels [C, P, 2] and depths [C, P] of `points` [P, 3]."""
    rotations, translations = cameras.viewmats[:, :3, :3], cameras.viewmats[:, :3, 3]
    local = torch.einsum("cij,pj->cpi", rotations, points) + translations[:, None]
    image = torch.einsum("cij,cpj->cpi", cameras.Ks, local)
    return image[..., :2] / image[..., 2:], local[..., 2]


@pytest.mark.parametrize("up", AXES)
def test_centre_projects_to_the_image_centre_and_up_is_up(up):
    scene = frame(up)
    cameras = orbit(scene, 7, width=200, height=100, elevation_degrees=20)
    pixels, depths = project(cameras, torch.stack([CENTER, CENTER + scene.up]))
    torch.testing.assert_close(pixels[:, 0], torch.tensor([100.0, 50.0]).expand(7, 2), atol=1e-2, rtol=0)
    torch.testing.assert_close(pixels[:, 1, 0], torch.full((7,), 100.0), atol=1e-2, rtol=0)
    assert (pixels[:, 1, 1] < 50).all()
    assert (depths > 0).all()
    right_handed = torch.linalg.det(cameras.viewmats[:, :3, :3])
    torch.testing.assert_close(right_handed, torch.ones(7))


def test_front_and_directions_of_azimuth_and_elevation():
    cameras = orbit(frame(), 4, width=64, height=64, elevation_degrees=0, distance=5)
    torch.testing.assert_close(cameras.positions[0], CENTER + torch.tensor([0.0, 0, 5]), atol=1e-4, rtol=0)
    to_its_right = cameras.viewmats[0, 0, :3]
    assert (cameras.positions[1] - cameras.positions[0]) @ to_its_right > 0
    above = orbit(frame(), 1, width=64, height=64, elevation_degrees=60, distance=5)
    assert (above.positions[0] - CENTER) @ frame().up == pytest.approx(
        5 * math.sin(math.radians(60)), rel=1e-4
    )
    turned = orbit(frame(), 1, width=64, height=64, elevation_degrees=0, distance=5, front_azimuth_degrees=90)
    torch.testing.assert_close(turned.positions[0], cameras.positions[1], atol=1e-4, rtol=0)
    modelled = orbit(frame("+z"), 1, width=64, height=64, elevation_degrees=0, distance=5)
    torch.testing.assert_close(modelled.positions[0], CENTER + torch.tensor([0.0, -5, 0]), atol=1e-4, rtol=0)


def test_full_turn_does_not_repeat_and_an_arc_has_both_ends():
    turn = orbit(frame(), 8, width=64, height=64)
    assert torch.pdist(turn.positions).min() > 1
    arc = orbit(frame(), 3, width=64, height=64, azimuth_degrees=(-90, 90), elevation_degrees=0, distance=1)
    offsets = arc.positions - CENTER
    torch.testing.assert_close(offsets[0], -offsets[2], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("width", "height"), [(100, 100), (300, 100), (100, 300)])
def test_the_sphere_fits_the_shorter_side(width, height):
    sphere = torch.nn.functional.normalize(
        torch.randn(20000, 3, generator=torch.Generator().manual_seed(0)), dim=1
    )
    pixels, _ = project(orbit(frame(), 4, width=width, height=height), CENTER + 2 * sphere)
    extent = (pixels.amax(1) - pixels.amin(1)) / min(width, height)
    assert (extent > 0.75).all()
    assert (extent < 0.81).all()


@pytest.mark.parametrize("name", ["plant", "demosthenes_10k", "koala_10k"])
def test_real_objects_fill_the_frame(name):
    path = SCENES / f"{name}.splat"
    if not path.exists():
        pytest.skip(f"{path.name} is not part of the repository")
    gaussians = load_gaussians(path)
    pixels, _ = project(orbit(find_frame(gaussians), 8, width=100, height=100), gaussians.means)
    extent = (pixels.amax(1) - pixels.amin(1)).amax(1)
    assert 65 < extent.max() < 90
    assert ((pixels > 0) & (pixels < 100)).all()
    middle = (pixels.amax(1) + pixels.amin(1)) / 2
    assert (middle - 50).abs().max() < 10


def views(**ranges) -> OrbitViews:
    return OrbitViews(frame(), 96, 64, **ranges)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_same_seed_same_views():
    first, indices = views().sample(4, generator())
    again, _ = views().sample(4, generator())
    other, _ = views().sample(4, generator(1))
    assert indices is None
    assert torch.equal(first.viewmats, again.viewmats)
    assert torch.equal(first.Ks, again.Ks)
    assert not torch.equal(first.viewmats, other.viewmats)
    assert (first.width, first.height) == (96, 64)


def test_ranges_are_kept_and_used():
    sampler = views(
        azimuth_degrees=(-30, 60),
        elevation_degrees=(5, 25),
        distance=(1, 1),
        fov_degrees=(45, 45),
        target_jitter=0,
    )
    cameras, _ = sampler.sample(500, generator())
    offsets = torch.nn.functional.normalize(cameras.positions - CENTER, dim=1)
    elevations = (offsets @ frame().up).asin().rad2deg()
    right = torch.linalg.cross(frame().up, torch.tensor([0.0, 0, 1]))
    azimuths = torch.atan2(offsets @ right, offsets[:, 2]).rad2deg()
    for values, low, high in ((elevations, 5, 25), (azimuths, -30, 60)):
        assert values.min() == pytest.approx(low, abs=1)
        assert values.max() == pytest.approx(high, abs=1)


def test_one_batch_sees_different_sides():
    for seed in range(20):
        cameras, _ = views(elevation_degrees=(0, 0), target_jitter=0).sample(4, generator(seed))
        offsets = torch.nn.functional.normalize(cameras.positions - CENTER, dim=1)
        assert offsets.sum(dim=0).norm() < 3  # they don't all stand on one side


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (
            {"fov_degrees": (0, 40)},
            r"scene.views.fov_degrees=\(0, 40\) must be a list of 2 numbers from 1 to 170",
        ),
        ({"elevation_degrees": (-100, 0)}, "scene.views.elevation_degrees"),
        ({"distance": (2, 1)}, "scene.views.distance=.*the lower one first"),
        ({"azimuth_degrees": 5}, "scene.views.azimuth_degrees=5 must be a list of 2 numbers"),
        ({"azimuth_degrees": ["left", "right"]}, "scene.views.azimuth_degrees"),
        ({"target_jitter": 1e9}, "scene.views.target_jitter=1000000000.0 must be a number from 0 to 10"),
        ({"target_jitter": "much"}, "scene.views.target_jitter=much must be a number"),
        ({"front_azimuth_degrees": None}, "scene.views.front_azimuth_degrees=null must be a number"),
        ({"count": 0}, "scene.views.count=0 must be a whole number from 1"),
        ({"count": -1}, "scene.views.count=-1 must be a whole number from 1"),
        ({"count": 1.5}, "scene.views.count=1.5 must be a whole number"),
        ({"size": 0}, "resolution=0 must be a whole number from 1"),
        ({"size": 1e9}, "resolution=1000000000.0 must be a whole number"),
    ],
)
@pytest.mark.parametrize("given", [False, True])
def test_impossible_ranges(ranges, message, given):
    """Whether or not the scene has cameras of its own: an ignored setting must be right, too."""
    cameras = orbit(frame(), 3, width=8, height=8) if given else None
    with pytest.raises(UserError, match=message):
        training_views(frame(), cameras=cameras, generator=generator(), **{"size": 64} | ranges)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_views": 0}, "views=0 must be a whole number from 1"),
        ({"num_views": 2.0}, "views=2.0 must be a whole number"),
        ({"width": 0}, "width=0"),
        ({"fov_degrees": 180}, "fov_degrees=180 must be a number from 1 to 170"),
        ({"elevation_degrees": "high"}, "elevation_degrees=high"),
        ({"distance": -1}, "distance=-1 must be a number above 0"),
        ({"azimuth_degrees": 5}, "azimuth_degrees=5 must be a list of 2 numbers"),
    ],
)
def test_impossible_orbits(settings, message):
    with pytest.raises(UserError, match=message):
        orbit(frame(), **{"num_views": 4, "width": 8, "height": 8} | settings)


def test_fixed_views_come_once_per_epoch():
    cameras = orbit(frame(), 10, width=64, height=64)
    sampler, source = FixedViews(cameras), generator()
    drawn = [sampler.sample(2, source) for _ in range(10)]
    indices = torch.cat([index for _, index in drawn])
    assert sorted(indices[:10].tolist()) == list(range(10))
    assert sorted(indices[10:].tolist()) == list(range(10))
    for batch, index in drawn:
        assert torch.equal(batch.viewmats, cameras.viewmats[index])
    assert len(FixedViews(cameras).sample(25, source)[1]) == 25


def test_fixed_views_resume_where_they_stopped():
    cameras = orbit(frame(), 10, width=64, height=64)
    sampler, source = FixedViews(cameras), generator()
    sampler.sample(3, source)
    saved, state = sampler.state_dict(), source.get_state()
    want = [sampler.sample(3, source)[1] for _ in range(5)]
    resumed, source = FixedViews(cameras), torch.Generator()
    source.set_state(state)
    resumed.load_state_dict(saved)
    assert torch.equal(torch.stack(want), torch.stack([resumed.sample(3, source)[1] for _ in range(5)]))


def test_the_extent_is_that_of_all_cameras_not_only_of_those_drawn():
    cameras = orbit(frame(), 130, width=32, height=32)
    offset = cameras.positions - cameras.positions.mean(dim=0)
    generator = torch.Generator().manual_seed(0)
    views = training_views(frame(), size=32, generator=generator, cameras=cameras, count=5)
    extent = camera_extent(views, frame(), cameras=cameras)
    assert extent == pytest.approx(1.1 * offset.norm(dim=-1).max().item())
    assert extent != pytest.approx(camera_extent(views, frame()), rel=1e-3)
