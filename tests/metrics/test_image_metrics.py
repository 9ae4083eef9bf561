"""Pixel metrics on cases with a known answer."""

from __future__ import annotations

import math

import pytest
import torch

from gs_ssd.metrics.image import mse, psnr, ssim

C1, C2 = 0.01**2, 0.03**2


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 24, 20, 3, generator=torch.Generator().manual_seed(0))


def test_equal_images(image):
    assert mse(image, image) == 0
    assert psnr(image, image) == math.inf
    assert ssim(image, image) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("offset", "decibel"), [(0.1, 20.0), (0.01, 40.0), (-0.1, 20.0)])
def test_a_constant_offset(image, offset, decibel):
    assert mse(image + offset, image) == pytest.approx(offset**2, rel=1e-4)
    assert psnr(image + offset, image) == pytest.approx(decibel, rel=1e-4)


@pytest.mark.parametrize(("a", "b"), [(0.2, 0.7), (0.0, 1.0), (0.5, 0.5)])
def test_ssim_of_flat_images_is_the_luminance_term(a, b):
    flat = torch.ones(1, 16, 16, 3)
    assert ssim(a * flat, b * flat) == pytest.approx((2 * a * b + C1) / (a * a + b * b + C1), rel=5e-4)


def test_ssim_of_an_inverted_checkerboard():
    """Equal means and variances v ≈ 1/4, covariance −v: the contrast term (c₂ − 2v) / (c₂ + 2v)."""
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    board = ((rows + columns) % 2).float()[None, ..., None].expand(1, 32, 32, 3)
    assert ssim(board, 1 - board) == pytest.approx((C2 - 0.5) / (C2 + 0.5), abs=1e-3)


def test_ssim_is_symmetric_and_falls_with_noise(image):
    smooth = 0.5 + 0.2 * torch.linspace(-1, 1, 20).expand(1, 24, 20)[..., None].expand(1, 24, 20, 3)
    noise = image - 0.5
    little, much = (ssim(smooth + s * noise, smooth) for s in (0.05, 0.2))
    assert 1 > little > much
    assert ssim(smooth, smooth + 0.2 * noise) == pytest.approx(much, rel=1e-5)
