"""A ball of random Gaussians: what a scene is generated from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from gs_ssd.checks import number, vector, whole
from gs_ssd.scene.gaussians import SH_C0, Gaussians

NEIGHBOURS = 3
_MOST = 20_000_000


def blob(
    *,
    count: int = 5000,
    radius: float = 1.0,
    center: Sequence[float] = (0.0, 0.0, 0.0),
    opacity: float = 0.1,
    colour_spread: float = 0.1,
    generator: torch.Generator,
) -> Gaussians:
    """A faint ball of round Gaussians, evenly filled, of degree-0 colours near grey (Tang et al., DreamGaussian, 2024).

    Args:
        count: number of Gaussians.
        radius: of the ball, world units.
        center: [3], world units.
        opacity: of each Gaussian, in (0, 1).
        colour_spread: half the range of each channel around mid-grey.

    The standard deviation of a Gaussian is the root mean square distance to its three nearest neighbours, as in 3DGS.
    """
    whole("count", count, NEIGHBOURS + 1, _MOST)
    number("radius", radius, above=0, most=1e6)
    number("opacity", opacity, above=0, below=1)
    number("colour_spread", colour_spread, least=0, most=10)
    middle = vector("center", center, 3, least=-1e9, most=1e9)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    distance = radius * torch.rand(count, 1, generator=generator) ** (1 / 3)
    means = direction * distance
    rgb = 0.5 + colour_spread * (2 * torch.rand(count, 1, 3, generator=generator) - 1)
    return Gaussians(
        means=means + torch.tensor(middle),
        scales=neighbour_distance(means).log()[:, None].repeat(1, 3),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        opacities=torch.full((count,), opacity).logit(),
        sh0=(rgb - 0.5) / SH_C0,
        shN=torch.zeros(count, 0, 3),
    )


def neighbour_distance(points: Tensor) -> Tensor:
    """The root mean square distance [N] of each point of [N, 3] to its three nearest neighbours."""
    distances, _ = cKDTree(points.numpy()).query(points.numpy(), k=NEIGHBOURS + 1)  # the nearest is itself
    return torch.from_numpy(distances[:, 1:]).to(points).square().mean(dim=-1).sqrt().clamp_min(1e-7)
