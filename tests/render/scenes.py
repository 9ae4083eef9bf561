"""Inputs for the rasterisers' tests: random scenes, and cameras on an arc around them."""

from __future__ import annotations

import torch

WIDTH, HEIGHT = 50, 37  # multiples of neither the tile nor the block


def views(count: int, width: int = WIDTH, height: int = HEIGHT, dtype=torch.float32):
    """viewmats [C, 4, 4] three units away from the origin, and Ks [C, 3, 3] with an off-centre principal point."""
    angles = 0.5 * torch.arange(count, dtype=torch.float64)
    viewmats = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    viewmats[:, 0, 0], viewmats[:, 0, 2] = angles.cos(), angles.sin()
    viewmats[:, 2, 0], viewmats[:, 2, 2] = -angles.sin(), angles.cos()
    viewmats[:, 2, 3] = 3.0
    K = torch.tensor([[0.8 * width, 0, width / 2 + 1], [0, 0.84 * width, height / 2 - 2], [0, 0, 1]])
    return viewmats.to(dtype), K.repeat(count, 1, 1).to(dtype)


def gaussians(count: int, bases: int = 16, *, seed: int = 0, dtype=torch.float32) -> dict:
    """Activated parameters, some of them needles, some behind the cameras or off the screen."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    parameters = {
        "means": normal(count, 3),
        "quats": normal(count, 4),
        "scales": torch.exp(normal(count, 3) - 2.3),
        "opacities": torch.sigmoid(2 * normal(count)),
        "colors": 0.4 * normal(count, bases, 3),
    }
    return {name: value.to(dtype) for name, value in parameters.items()}


def wide_gaussians(count: int, bases: int, *, seed: int = 0) -> dict:
    """float64 Gaussians without a discontinuity: each covers every pixel with an opacity well inside (1/255, 0.999)."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    return {
        "means": 0.4 * (uniform(count, 3) - 0.5),
        "quats": uniform(count, 4) - 0.5,
        "scales": 1.0 + uniform(count, 3),
        "opacities": 0.2 + 0.3 * uniform(count),
        "colors": 0.2 * uniform(count, bases, 3),
    }
