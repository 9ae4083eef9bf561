"""The CPU rasteriser: three autograd functions (project, shade, composite) around the numba kernels."""

from __future__ import annotations

import torch
from torch.autograd.function import once_differentiable

from gs_ssd.render import composite, harmonics, projection, tiles
from gs_ssd.render.threads import run

_MANY = 2048  # Gaussians whose projection is worth handing over


def _arrays(*tensors):
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def _run(kernel, count, *args):
    return run(kernel, *args) if count >= _MANY else kernel(0, *args)


class _Project(torch.autograd.Function):
    """means [N, 3], quats [N, 4], scales [N, 3] -> means2d [C, N, 2], depths [C, N], conics [C, N, 3], radii."""

    @staticmethod
    def forward(ctx, means, quats, scales, opacities, viewmats, Ks, width, height, near, far, eps2d):
        C, N = len(viewmats), len(means)
        means2d, depths, conics = means.new_empty(C, N, 2), means.new_empty(C, N), means.new_empty(C, N, 3)
        radii = torch.empty(C, N, 2, dtype=torch.int32)
        _run(
            projection.project, N, width, height, float(near), float(far), float(eps2d),
            *_arrays(means, quats, scales, opacities, viewmats, Ks, radii, means2d, depths, conics),
        )  # fmt: skip
        ctx.save_for_backward(means, quats, scales, viewmats, Ks, conics)
        ctx.options = width, height, float(eps2d)
        ctx.mark_non_differentiable(radii)
        return means2d, depths, conics, radii

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_means2d, grad_depths, grad_conics, _):
        saved = ctx.saved_tensors
        grads = [x.new_empty(x.shape) for x in saved[:3]]
        _run(
            projection.project_adjoint, len(saved[0]), *ctx.options,
            *_arrays(*saved, grad_means2d, grad_depths, grad_conics, *grads),
        )  # fmt: skip
        return *grads, *[None] * 8


class _Shade(torch.autograd.Function):
    """means [N, 3], coefficients [N, K, 3] -> colors [C, N, 3]; conics [C, N, 3] tell who is in view."""

    @staticmethod
    def forward(ctx, means, coefficients, conics, viewmats, degree):
        colors = means.new_empty(len(viewmats), len(means), 3)
        _run(harmonics.shade, len(means), degree, *_arrays(means, coefficients, viewmats, conics, colors))
        ctx.save_for_backward(means, coefficients, viewmats, conics)
        ctx.degree = degree
        return colors

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_colors):
        saved = ctx.saved_tensors
        grads = [x.new_empty(x.shape) for x in saved[:2]]
        arrays = _arrays(*saved, grad_colors, *grads)
        _run(harmonics.shade_adjoint, len(saved[0]), ctx.degree, *arrays)
        return *grads, None, None, None


class _Composite(torch.autograd.Function):
    """means2d, conics, opacities [N], colors [C, N, D <= 4], backgrounds [C, D] -> [C, H, W, D], [C, H, W, 1]."""

    @staticmethod
    def forward(ctx, means2d, conics, opacities, colors, backgrounds, depths, width, height):
        C, _, D = colors.shape
        color, alpha = colors.new_empty(C, height, width, D), colors.new_empty(C, height, width, 1)
        opacity, *views = _arrays(opacities, means2d, conics, depths, colors, backgrounds, color, alpha)
        ctx.passes = [run(composite.forward, opacity, *view) for view in zip(*views)]
        ctx.save_for_backward(conics, opacities, backgrounds, alpha)
        return color, alpha

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_color, grad_alpha):
        conics, opacities, backgrounds, alpha = ctx.saved_tensors
        C, N, D = len(conics), len(opacities), grad_color.shape[-1]
        grads = [conics.new_empty(shape) for shape in ((C, N, 2), (C, N, 3), (C, N, D))]
        grad_opacities = torch.zeros_like(opacities)
        opacity, grad_opacity, *views = _arrays(
            opacities, grad_opacities, conics, backgrounds, grad_color, grad_alpha, *grads
        )
        for lists, *view in zip(ctx.passes, *views):
            run(composite.backward, *lists, opacity, grad_opacity, *view)
        grad_means2d, grad_conics, grad_colors = grads
        grad_backgrounds = (grad_color * (1 - alpha)).sum((1, 2)) if ctx.needs_input_grad[4] else None
        return grad_means2d, grad_conics, grad_opacities, grad_colors, grad_backgrounds, *[None] * 3


def rasterization(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, *,
    near_plane, far_plane, eps2d, sh_degree, backgrounds, render_mode,
):  # fmt: skip
    """See `gs_ssd.render.rasterization`, which has checked the arguments."""
    C, N = len(viewmats), len(means)
    means2d, depths, conics, radii = _Project.apply(
        means, quats, scales, opacities, viewmats, Ks, width, height, near_plane, far_plane, eps2d
    )
    if render_mode in ("D", "ED"):
        colors = depths[..., None]
    else:
        if sh_degree is not None:
            colors = _Shade.apply(means, colors, conics.detach(), viewmats, sh_degree)
        colors = colors.expand(C, N, colors.shape[-1])
        if render_mode != "RGB":
            colors = torch.cat([colors, depths[..., None]], dim=-1)
    D = colors.shape[-1]
    if backgrounds is None:
        backgrounds = colors.new_zeros(C, D)
    elif render_mode != "RGB":  # depth has no background
        backgrounds = torch.cat([backgrounds[:, : D - 1], backgrounds.new_zeros(C, 1)], dim=-1)

    images = []
    parts = colors.split(tiles.CHANNELS, -1) if D > tiles.CHANNELS else (colors,)  # a split costs a copy
    for part, background in zip(parts, backgrounds.split(tiles.CHANNELS, -1)):
        image, alphas = _Composite.apply(
            means2d, conics, opacities, part, background, depths.detach(), width, height
        )
        images.append(image)
    image = images[0] if len(images) == 1 else torch.cat(images, dim=-1)
    if render_mode in ("ED", "RGB+ED"):
        image = torch.cat([image[..., :-1], image[..., -1:] / alphas.clamp(min=1e-10)], dim=-1)
    info = {
        "means2d": means2d,
        "radii": radii,
        "depths": depths,
        "conics": conics,
        "opacities": opacities.expand(C, N),
        "width": width,
        "height": height,
        "tile_size": tiles.TILE,
        "n_cameras": C,
    }
    return image, alphas, info
