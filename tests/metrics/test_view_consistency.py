"""View consistency on analytic views: a painted wall, seen by two cameras side by side."""

import math

import pytest
import torch

from gs_ssd.metrics.view_consistency import warp_psnr

SIZE, FOCAL, DISTANCE, STEP = 48, 40.0, 4.0, 0.35


def cameras(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cameras that look along +z, STEP apart along x."""
    viewmats = torch.eye(4).repeat(count, 1, 1)
    viewmats[:, 0, 3] = -STEP * torch.arange(count)
    Ks = torch.tensor([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1.0]]).repeat(count, 1, 1)
    return viewmats, Ks


def wall(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Views [V, H, W, 3] and depths of a wall at z = DISTANCE with smooth paint; exact, no renderer."""
    centres = torch.arange(SIZE) + 0.5 - SIZE / 2
    y, x = torch.meshgrid(centres * DISTANCE / FOCAL, centres * DISTANCE / FOCAL, indexing="ij")
    xs = x + STEP * torch.arange(count)[:, None, None]
    paint = torch.stack([0.5 + 0.3 * xs.sin(), 0.5 + 0.3 * (xs + y).cos(), 0.5 + 0.3 * y.sin() + 0 * xs], -1)
    return paint, torch.full((count, SIZE, SIZE), DISTANCE)


def everywhere(count: int) -> torch.Tensor:
    return torch.ones(count, SIZE, SIZE, dtype=torch.bool)


def test_a_still_scene_agrees_up_to_interpolation():
    images, depths = wall(3)
    assert warp_psnr(images, depths, *cameras(3), everywhere(3)) > 60


def test_two_equal_views_agree_exactly():
    images, depths = wall(1)
    viewmats, Ks = cameras(1)
    pair = [t.repeat(2, *[1] * (t.dim() - 1)) for t in (images, depths, viewmats, Ks)]
    assert warp_psnr(*pair, everywhere(2)) > 100


def test_a_view_of_its_own_colour_has_the_psnr_of_the_difference():
    images, depths = wall(2)
    images[1] += 0.1
    assert warp_psnr(images, depths, *cameras(2), everywhere(2)) == pytest.approx(20, abs=0.05)


def test_a_picture_per_view_is_bad():
    _, depths = wall(4)
    noise = torch.rand(4, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(0))
    assert warp_psnr(noise, depths, *cameras(4), everywhere(4)) < 10


def test_hidden_surfaces_are_not_compared():
    """A near board covers other parts of the wall in each view: where depths disagree, nothing is compared."""
    images, depths = wall(2)
    for view, left in ((0, 30), (1, 20)):
        images[view, :, left : left + 8] = torch.tensor([1.0, 0, 0])
        depths[view, :, left : left + 8] = FOCAL * STEP / 10  # moves by 10 pixels between the views
    assert warp_psnr(images, depths, *cameras(2), everywhere(2)) > 55
    assert warp_psnr(images, torch.full_like(depths, DISTANCE), *cameras(2), everywhere(2)) < 15


def test_only_the_masked_pixels_count():
    images, depths = wall(2)
    mask = everywhere(2)
    mask[:, SIZE // 2 :] = False
    images[1, SIZE // 2 :] = 1.0
    assert warp_psnr(images, depths, *cameras(2), mask) > 55
    assert math.isnan(warp_psnr(images, depths, *cameras(2), ~everywhere(2)))
