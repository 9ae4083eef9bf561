"""The slow rasteriser the fast ones are judged by: every Gaussian at every pixel, in plain torch, by autograd.

Follows gsplat 1.5.3: its projection and spherical harmonics are called, its compositing rules written out.
"""

from __future__ import annotations

import torch
from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci, _spherical_harmonics

ALPHA_MIN, ALPHA_MAX, TRANSMITTANCE_MIN = 1 / 255, 0.999, 1e-4


def project(means, quats, scales, viewmats, Ks, width, height, eps2d=0.3, near_plane=0.01, far_plane=1e10):
    """radii [C, N, 2] (not opacity-aware), means2d [C, N, 2], depths [C, N], conics [C, N, 3]."""
    return _project(means, quats, scales, viewmats, Ks, width, height, eps2d, near_plane, far_plane)[:4]


def _project(means, quats, scales, viewmats, Ks, width, height, eps2d, near_plane, far_plane):
    """The same, and by how much the blur eps2d calls for less opacity [C, N]."""
    covars, _ = _quat_scale_to_covar_preci(quats, scales, True, False)
    return _fully_fused_projection(
        means, covars, viewmats, Ks, width, height,
        eps2d=eps2d, near_plane=near_plane, far_plane=far_plane, calc_compensations=True,
    )  # fmt: skip


def shade(means, coefficients, viewmats, degree):
    """Colours [C, N, 3] from harmonic coefficients [N, K, 3]."""
    positions = torch.inverse(viewmats)[:, :3, 3]
    directions = means[None] - positions[:, None]
    coefficients = coefficients.expand(len(viewmats), *coefficients.shape)
    return torch.clamp_min(_spherical_harmonics(degree, directions, coefficients) + 0.5, 0.0)


def composite(means2d, conics, opacities, colors, depths, visible, background, width, height):
    """One view, front to back, all pixels at once. Returns [H, W, D] and [H, W, 1]."""
    order = torch.nonzero(visible)[:, 0]
    order = order[torch.argsort(depths[order], stable=True)]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    x, y = x.to(means2d), y.to(means2d)
    T = torch.ones_like(x)
    done = torch.zeros_like(x, dtype=torch.bool)
    image = means2d.new_zeros(height, width, colors.shape[-1])
    for g in order.tolist():
        dx, dy = means2d[g, 0] - x, means2d[g, 1] - y
        a, b, c = conics[g]
        sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
        alpha = torch.clamp_max(opacities[g] * torch.exp(-sigma), ALPHA_MAX)
        hit = (alpha >= ALPHA_MIN) & (sigma >= 0) & ~done
        after = T * (1 - alpha)
        done = done | (hit & (after <= TRANSMITTANCE_MIN))
        visible_here = hit & ~done
        image = image + torch.where(visible_here, alpha * T, 0)[..., None] * colors[g]
        T = torch.where(visible_here, after, T)
    return image + T[..., None] * background, (1 - T)[..., None]


def rasterization(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, *,
    near_plane=0.01, far_plane=1e10, eps2d=0.3, sh_degree=None, backgrounds=None, render_mode="RGB",
    rasterize_mode="classic",
):  # fmt: skip
    """The signature of `gs_ssd.render.rasterization`."""
    C, N = len(viewmats), len(means)
    radii, means2d, depths, conics, compensations = _project(
        means, quats, scales, viewmats, Ks, width, height, eps2d, near_plane, far_plane
    )
    visible = (radii > 0).all(-1)
    opacities = opacities * (compensations if rasterize_mode == "antialiased" else torch.ones_like(depths))
    if sh_degree is not None:
        colors = shade(means, colors, viewmats, sh_degree)
    colors = colors.expand(C, N, colors.shape[-1])
    if backgrounds is None:
        backgrounds = colors.new_zeros(C, colors.shape[-1])
    if render_mode != "RGB":
        keep = slice(0, None if render_mode.startswith("RGB") else 0)
        colors = torch.cat([colors[..., keep], depths[..., None]], dim=-1)
        backgrounds = torch.cat([backgrounds[..., keep], backgrounds.new_zeros(C, 1)], dim=-1)
    pairs = [
        composite(
            means2d[c],
            conics[c],
            opacities[c],
            colors[c],
            depths[c],
            visible[c],
            backgrounds[c],
            width,
            height,
        )
        for c in range(C)
    ]
    image, alpha = torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])
    if render_mode.endswith("ED"):
        image = torch.cat([image[..., :-1], image[..., -1:] / alpha.clamp(min=1e-10)], dim=-1)
    return image, alpha, {"means2d": means2d, "radii": radii, "depths": depths, "conics": conics}
