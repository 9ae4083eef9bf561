"""Synthetic scenes for tests."""

import torch

from gs_ssd.scene import Gaussians


def random_gaussians(count: int = 200, *, sh_degree: int = 1, seed: int = 0) -> Gaussians:
    """A ball of Gaussians of radius about 1 around the origin."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Gaussians(
        means=0.5 * randn(count, 3),
        scales=-2.5 + 0.3 * randn(count, 3),
        quats=randn(count, 4),
        opacities=1 + randn(count),
        sh0=0.8 * randn(count, 1, 3),
        shN=0.1 * randn(count, (sh_degree + 1) ** 2 - 1, 3),
    )
