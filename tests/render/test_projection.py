"""The projection and the harmonics against gsplat's own torch implementations."""

import pytest
import torch

from gs_ssd.render import cpu, rasterization
from gs_ssd.render.tiles import COLOR
from tests.render import oracle
from tests.render.scenes import HEIGHT, WIDTH, gaussians, views


def project(parameters, viewmats, Ks):
    info = rasterization(**parameters, viewmats=viewmats, Ks=Ks, width=WIDTH, height=HEIGHT, sh_degree=0)[2]
    return info["radii"], info["means2d"], info["depths"], info["conics"]


def relative(got, expected):
    return (got - expected).abs().max() / expected.abs().max()


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-4), pytest.param(torch.float64, 1e-11, marks=pytest.mark.slow)],
)
def test_matches_gsplat(dtype, tolerance):
    parameters = gaussians(300, 1, dtype=dtype)
    viewmats, Ks = views(3, dtype=dtype)
    inputs = [parameters[name] for name in ("means", "quats", "scales")]
    outputs, gradients = [], []
    for run in (
        lambda *x: project({**parameters, **dict(zip(("means", "quats", "scales"), x))}, viewmats, Ks),
        lambda *x: oracle.project(*(y.double() for y in (*x, viewmats, Ks)), WIDTH, HEIGHT),
    ):
        leaves = [x.clone().requires_grad_() for x in inputs]
        radii, *results = run(*leaves)
        generator = torch.Generator().manual_seed(1)
        seen = (project(parameters, viewmats, Ks)[0] > 0).all(-1)
        cotangents = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) for x in results]
        cotangents = [torch.where(seen.view(*seen.shape, *[1] * (x.dim() - 2)), x, 0) for x in cotangents]
        gradients.append(torch.autograd.grad(results, leaves, cotangents))
        outputs.append((radii, [x[seen] for x in results]))
    (radii, ours), (radii_without_opacity, theirs) = outputs
    assert 50 < (radii > 0).all(-1).sum() < 3 * 300
    assert (radii <= radii_without_opacity).all()
    for got, expected in zip([*ours, *gradients[0]], [*theirs, *gradients[1]]):
        assert relative(got, expected) < tolerance


def test_radii_are_opacity_aware():
    parameters = gaussians(200, 1)
    viewmats, Ks = views(1)
    radii, _, _, conics = (x[0] for x in project(parameters, viewmats, Ks))
    seen = (radii > 0).all(-1)
    a, b, c = conics[seen].double().unbind(-1)
    determinant = a * c - b * b
    extent = (2 * torch.log(255 * parameters["opacities"][seen].double())).sqrt().clamp(max=3.33)
    for axis, variance in enumerate((c / determinant, a / determinant)):
        exact = extent * variance.sqrt()
        assert ((radii[seen, axis] - exact) > -1e-2).all() and ((radii[seen, axis] - exact) < 1.01).all()


def test_a_long_needle_keeps_its_width():
    """cov2d of a 1:10000 needle at 45 degrees: its determinant cancels in float32 unless summed by minors."""
    parameters = gaussians(1, 1)
    parameters |= {
        "means": torch.zeros(1, 3),
        "quats": torch.tensor([[0.9238795, 0, 0, 0.3826834]]),
        "scales": torch.tensor([[10.0, 1e-3, 1e-3]]),
        "opacities": torch.ones(1),
    }
    inputs = [parameters[name].double() for name in ("means", "quats", "scales")]
    exact = oracle.project(*inputs, *views(1, dtype=torch.float64), WIDTH, HEIGHT)[3]
    assert relative(project(parameters, *views(1))[3], exact) < 1e-4


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), pytest.param(torch.float64, 1e-12, marks=pytest.mark.slow)],
)
def test_harmonics_match_gsplat(degree, dtype, tolerance):
    parameters = gaussians(100, 16, dtype=dtype)
    parameters["means"] *= 0.3  # all of them in view
    viewmats, Ks = views(3, dtype=dtype)
    cotangent = torch.randn(3, 100, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(
        dtype
    )
    limits = float(WIDTH), float(HEIGHT), 0.01, 1e10, 0.3

    def colors_of_records(means, coefficients):
        cameras = [
            cpu._camera(matrices, limits, (0, degree, -1), cpu._NOWHERE, 100)
            for matrices in cpu._matrices(viewmats, Ks)
        ]
        base, rest = coefficients[:, 0].contiguous(), coefficients[:, 1:].reshape(100, 45).contiguous()
        others = [parameters[name] for name in ("quats", "scales", "opacities")]
        records = cpu._Project.apply(means, *others, base, rest, None, cameras)[3]
        assert all(camera.visible.sum() == 100 for camera in cameras)
        return records[:, :100, COLOR : COLOR + 3]

    results = []
    for shade in (
        colors_of_records,
        lambda means, coefficients: oracle.shade(means, coefficients, viewmats, degree),
    ):
        leaves = [parameters[name].clone().requires_grad_() for name in ("means", "colors")]
        colors = shade(*leaves)
        grads = torch.autograd.grad(colors, leaves, cotangent, allow_unused=True)
        results.append([colors, *(torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads))])
    for got, expected in zip(*results):
        assert (got - expected).abs().max() <= tolerance * expected.abs().max()
