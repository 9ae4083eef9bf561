"""The object is found in spite of outliers, floaters, a sky and a floor; the up axis, too."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.scene import Gaussians, SceneFrame, find_frame, load_gaussians
from tests.scene.layouts import SCENES
from tests.synthetic import random_gaussians

REAL = ["plant", "demosthenes_10k", "koala_10k"]


def real(name: str) -> Gaussians:
    path = SCENES / f"{name}.splat"
    if not path.exists():
        pytest.skip(f"{path.name} is not part of the repository")
    return load_gaussians(path)


def with_extra(gaussians: Gaussians, means: torch.Tensor) -> Gaussians:
    """`gaussians` and copies of its first ones at other places."""
    extra = gaussians[torch.arange(len(means)) % len(gaussians)]
    extra.means = means
    return Gaussians(
        **{name: torch.cat([a, extra.tensors()[name]]) for name, a in gaussians.tensors().items()}
    )


def directions(count: int) -> torch.Tensor:
    return torch.nn.functional.normalize(
        torch.randn(count, 3, generator=torch.Generator().manual_seed(1)), dim=1
    )


def shift(got: SceneFrame, want: SceneFrame) -> float:
    return ((got.center - want.center).norm() / want.radius).item()


@pytest.fixture(scope="module", params=["ball", *REAL])
def scene(request) -> Gaussians:
    return ball() if request.param == "ball" else real(request.param)


@pytest.fixture(scope="module")
def plain(scene) -> SceneFrame:
    return find_frame(scene)


def ball(count: int = 4000) -> Gaussians:
    """Evenly filled, of radius 1 around the origin."""
    gaussians = random_gaussians(count)
    gaussians.means = directions(count) * torch.linspace(0, 1, count)[:, None] ** (1 / 3)
    return gaussians


def test_radius_encloses_nearly_everything_and_no_more():
    gaussians = random_gaussians(4000)
    gaussians.means = 3.0 * directions(4000) + torch.tensor([10.0, -20.0, 5.0])
    frame = find_frame(gaussians)
    assert frame.radius == pytest.approx(3.0, rel=0.02)
    torch.testing.assert_close(frame.center, torch.tensor([10.0, -20.0, 5.0]), atol=0.06, rtol=0)


def test_outliers_do_not_move_it(scene, plain):
    outliers = plain.center + 1000 * plain.radius * directions(max(len(scene) // 100, 1))
    frame = find_frame(with_extra(scene, outliers))
    assert shift(frame, plain) < 0.02
    assert frame.radius == pytest.approx(plain.radius, rel=0.02)


def test_a_one_sided_cluster_far_away_does_not_move_it(scene, plain):
    wall = plain.center + plain.radius * (torch.tensor([12.0, 0, 0]) + directions(len(scene) // 2))
    assert shift(find_frame(with_extra(scene, wall)), plain) < 0.02


def test_a_sky_does_not_move_it(scene, plain):
    sky = plain.center + 30 * plain.radius * directions(len(scene))
    frame = find_frame(with_extra(scene, sky))
    assert shift(frame, plain) < 0.02
    assert frame.radius == pytest.approx(plain.radius, rel=0.02)


def test_an_arm_belongs_to_the_object():
    body = random_gaussians(4000)
    body.means = directions(4000)
    arm = torch.stack([torch.linspace(1, 1.8, 200), torch.zeros(200), torch.zeros(200)], dim=1)
    frame = find_frame(with_extra(body, arm))
    assert frame.center[0] == pytest.approx(0.4, abs=0.1)
    assert frame.radius == pytest.approx(1.4, abs=0.1)


def floor(frame: SceneFrame, up: torch.Tensor, count: int) -> torch.Tensor:
    """A square of 6 radii, one radius below the centre."""
    generator = torch.Generator().manual_seed(2)
    helper = torch.tensor([1.0, 0, 0])
    a = torch.nn.functional.normalize(torch.linalg.cross(up, helper), dim=0)
    b = torch.linalg.cross(up, a)
    across = 6 * torch.rand(count, 2, generator=generator) - 3
    height = -0.97 + 0.005 * torch.randn(count, 1, generator=generator)
    return frame.center + frame.radius * (across[:, :1] * a + across[:, 1:] * b + height * up)


@pytest.mark.parametrize("tilt", [0.0, 25.0])
@pytest.mark.parametrize("axis", ["-y", "+z"])
def test_a_floor_gives_the_up_axis(scene, plain, axis, tilt):
    if axis == "+z" and tilt:
        tilt = 8.0  # a wall leans less
    angle = math.radians(tilt)
    up = torch.tensor([0.0, -math.cos(angle), math.sin(angle)])
    if axis == "+z":
        up = torch.tensor([0.0, math.sin(angle), math.cos(angle)])
    frame = find_frame(with_extra(scene, floor(plain, up, len(scene) // 2)))
    assert frame.up @ up > math.cos(math.radians(3))
    assert shift(frame, plain) < 0.15


def test_without_a_floor_up_is_minus_y(plain):
    assert torch.equal(plain.up, torch.tensor([0.0, -1.0, 0.0]))


@pytest.mark.parametrize(("name", "vector"), [("+z", [0, 0, 1]), ("-y", [0, -1, 0]), ("-x", [-1, 0, 0])])
def test_up_can_be_chosen(name, vector):
    assert find_frame(random_gaussians(), up=name).up.tolist() == vector


def test_unknown_up_axis():
    with pytest.raises(UserError, match=r"scene\.up=sideways must be one of auto, "):
        find_frame(random_gaussians(), up="sideways")


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_gaussians_have_a_finite_frame(count):
    gaussians = random_gaussians(count)
    frame = find_frame(gaussians)
    assert frame.radius > 0
    assert frame.center.isfinite().all()
    gaussians.means[:] = 7.0  # all at one place
    frame = find_frame(gaussians)
    assert frame.radius > 0
    assert torch.equal(frame.center, torch.full((3,), 7.0))


def test_frame_follows_scale_and_translation():
    gaussians = ball()
    plain = find_frame(gaussians)
    gaussians.means = 100 * gaussians.means + torch.tensor([1000.0, 0, 0])
    moved = find_frame(gaussians)
    assert moved.radius == pytest.approx(100 * plain.radius, rel=0.02)
    assert ((moved.center - 100 * plain.center - torch.tensor([1000.0, 0, 0])).norm() / moved.radius) < 0.02


def far_away(gaussians: Gaussians, offset: float) -> Gaussians:
    """The scene moved along a diagonal; float32 leaves it what precision it has there."""
    return replace(gaussians, means=gaussians.means + offset * torch.tensor([1.0, -0.7, 0.3]))


@pytest.mark.parametrize("offset", [1e3, 1e4, 1e5, 1e6])
def test_a_scene_far_from_the_origin_is_found(scene, plain, offset):
    # at a size at which float32 still resolves a thousandth of the object
    factor = max(1.0, 2e-4 * offset / plain.radius)
    scaled = replace(scene, means=factor * scene.means, scales=scene.scales + math.log(factor))
    frame = find_frame(far_away(scaled, offset))
    want = factor * plain.center.double() + offset * torch.tensor([1.0, -0.7, 0.3], dtype=torch.float64)
    assert frame.radius == pytest.approx(factor * plain.radius, rel=0.02)
    assert ((frame.center - want).norm() / frame.radius).item() < 0.02
    assert torch.equal(frame.up, plain.up)


@pytest.mark.parametrize("offset", [0.0, 7.0, 1e5])
def test_identical_gaussians_have_a_frame(offset):
    gaussians = random_gaussians(100)
    same = gaussians[torch.zeros(100, dtype=torch.long)]
    same.means[:] = offset
    frame = find_frame(same)
    assert frame.radius == pytest.approx(same.scales.exp().median().item())
    assert torch.equal(frame.center, torch.full((3,), offset))


def test_a_given_centre_and_radius_are_taken_without_a_search(monkeypatch):
    def searched(*_):
        raise AssertionError("the object was searched for")

    gaussians = ball()
    monkeypatch.setattr("gs_ssd.scene.frame._object", searched)
    frame = find_frame(gaussians, center=[0.1, 0, 0], radius=2)
    assert frame.center.tolist() == pytest.approx([0.1, 0, 0])
    assert frame.radius == 2.0


def test_a_given_centre_keeps_the_found_radius_and_the_other_way_round():
    gaussians = ball()
    plain = find_frame(gaussians)
    assert find_frame(gaussians, center=[0.5, 0, 0]).radius == plain.radius
    assert torch.equal(find_frame(gaussians, radius=3.0).center, plain.center)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radius": math.nan}, "scene.radius=nan must be a number above 0"),
        ({"radius": "big"}, "scene.radius=big must be a number above 0"),
        ({"radius": 0}, "scene.radius=0 must be a number above 0"),
        ({"center": [0, 0]}, r"scene.center=\[0, 0\] must be a list of 3 numbers"),
        ({"center": "middle"}, "scene.center=middle must be a list of 3 numbers"),
        ({"center": [1e6, 0, 0]}, r"scene.center=\[1000000.0, 0.0, 0.0\] is 1e\+06 units away from every"),
        ({"up": None}, "scene.up=null must be one of auto"),
    ],
)
def test_settings_that_are_no_frame(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        find_frame(ball(), **settings)
    assert "\n" not in str(caught.value)
