"""Captured and converted splats, which have the outliers and needles that random scenes lack."""

from pathlib import Path

import pytest
import torch

from gs_ssd.render import rasterization
from gs_ssd.scene.cameras import intrinsics, look_at
from gs_ssd.scene.formats import load_gaussians
from tests.render import oracle

SCENES = Path(__file__).parents[3] / "shared" / "scenes"


@pytest.mark.parametrize("name", ["koala_10k", "demosthenes_10k", "plant"])
def test_a_real_splat_matches_the_oracle(name):
    path = SCENES / f"{name}.splat"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    scene = load_gaussians(path)
    scene = scene[torch.randperm(len(scene), generator=torch.Generator().manual_seed(0))[:1000]]
    center = scene.means.median(0).values
    radius = (scene.means - center).norm(dim=1).quantile(0.9)
    position = center + 2.5 * radius * torch.tensor([[0.3, -0.2, 0.93]])
    viewmats, Ks = look_at(position, center, torch.tensor([0.0, -1.0, 0.0])), intrinsics(45, 48, 48)[None]
    activated = {
        "means": scene.means,
        "quats": scene.quats,
        "scales": 5 * scene.scales.exp(),
        "opacities": scene.opacities.sigmoid(),
        "colors": scene.rgb,
    }
    results = []
    for function, dtype in ((rasterization, torch.float32), (oracle.rasterization, torch.float64)):
        leaves = {key: value.to(dtype, copy=True).requires_grad_() for key, value in activated.items()}
        image, alpha, _ = function(
            **leaves, viewmats=viewmats.to(dtype), Ks=Ks.to(dtype), width=48, height=48
        )
        cotangent = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        gradients = torch.autograd.grad(image, list(leaves.values()), cotangent)
        results.append((image.detach(), alpha.detach(), *gradients))
    (image, alpha, *gradients), (oracle_image, oracle_alpha, *oracle_gradients) = results
    assert oracle_alpha.mean() > 0.1
    assert (image - oracle_image).abs().max() < 1e-4 and (alpha - oracle_alpha).abs().max() < 1e-4
    for got, expected in zip(gradients, oracle_gradients):
        assert (got - expected).abs().max() <= 1e-3 * expected.abs().max()
