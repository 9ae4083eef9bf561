"""The CPU rasteriser: three autograd functions (project, shade, composite) around the numba kernels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import composite, harmonics, projection, tiles
from .threads import parallel

_GRAIN = 2048  # Gaussians per task


def _flat(tensor: Tensor):
    return tensor.detach().contiguous().numpy().reshape(-1)


def _double(tensor: Tensor):
    return tensor.detach().double().contiguous().numpy()


class _Project(torch.autograd.Function):
    """means [N, 3], quats [N, 4], scales [N, 3] -> means2d [C, N, 2], depths [C, N], conics [C, N, 3], radii."""

    @staticmethod
    def forward(ctx, means, quats, scales, opacities, viewmats, Ks, width, height, near, far, eps2d):
        C, N = len(viewmats), len(means)
        means2d, depths, conics = means.new_empty(C, N, 2), means.new_empty(C, N), means.new_empty(C, N, 3)
        radii = torch.empty(C, N, 2, dtype=torch.int32)
        ctx.save_for_backward(means, quats, scales, conics)
        ctx.view = viewmats, Ks, width, height, eps2d = (
            _double(viewmats),
            _double(Ks),
            width,
            height,
            float(eps2d),
        )
        inputs = _flat(means), _flat(quats), _flat(scales), _flat(opacities)
        for c in range(C):
            parallel(projection.project, N, *inputs, viewmats[c], Ks[c], width, height, float(near), float(far),
                     eps2d, *(_flat(x[c]) for x in (radii, means2d, depths, conics)), grain=_GRAIN)  # fmt: skip
        ctx.mark_non_differentiable(radii)
        return means2d, depths, conics, radii

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_means2d, grad_depths, grad_conics, _):
        means, quats, scales, conics = ctx.saved_tensors
        grads = [torch.empty(x.shape, dtype=x.dtype) for x in (means, quats, scales)]
        parallel(projection.project_adjoint, len(means), _flat(means), _flat(quats), _flat(scales), *ctx.view,
                 _flat(conics), _flat(grad_means2d), _flat(grad_depths), _flat(grad_conics), *map(_flat, grads),
                 grain=_GRAIN)  # fmt: skip
        return *grads, *[None] * 8


class _Shade(torch.autograd.Function):
    """means [N, 3], coefficients [N, K, 3] -> colors [C, N, 3]; conics [C, N, 3] tell who is in view."""

    @staticmethod
    def forward(ctx, means, coefficients, conics, viewmats, degree):
        colors = means.new_empty(len(viewmats), len(means), 3)
        ctx.save_for_backward(means, coefficients, conics)
        rotation, translation = viewmats[:, :3, :3].double(), viewmats[:, :3, 3:].double()
        ctx.positions, ctx.degree = _double(-(rotation.mT @ translation)[..., 0]), degree
        stride = 3 * coefficients.shape[1]
        for c, position in enumerate(ctx.positions):
            parallel(harmonics.shade, len(means), degree, _flat(means), _flat(coefficients), stride, position,
                     _flat(conics[c]), _flat(colors[c]), grain=_GRAIN)  # fmt: skip
        return colors

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_colors):
        means, coefficients, conics = ctx.saved_tensors
        grads = [torch.empty(x.shape, dtype=x.dtype) for x in (means, coefficients)]
        stride = 3 * coefficients.shape[1]
        parallel(harmonics.shade_adjoint, len(means), ctx.degree, _flat(means), _flat(coefficients), stride,
                 ctx.positions, _flat(conics), _flat(grad_colors), *map(_flat, grads), grain=_GRAIN)  # fmt: skip
        return *grads, None, None, None


class _Composite(torch.autograd.Function):
    """means2d, conics, opacities [N], colors [C, N, D <= 4], backgrounds [C, D] -> [C, H, W, D], [C, H, W, 1]."""

    @staticmethod
    def forward(ctx, means2d, conics, opacities, colors, backgrounds, depths, width, height):
        C, _, D = colors.shape
        color, alpha = colors.new_empty(C, height, width, D), colors.new_empty(C, height, width, 1)
        ctx.passes = []
        for c in range(C):
            per_view = (_flat(x[c]) for x in (means2d, conics, depths, colors))
            lists = tiles.build(*per_view, _flat(opacities), D, width, height)
            background = _flat(backgrounds[c])
            state = composite.forward(lists, background, color[c].numpy(), alpha[c, ..., 0].numpy())
            ctx.passes.append((lists, state, background))
        ctx.save_for_backward(conics, opacities, alpha)
        return color, alpha

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_color, grad_alpha):
        conics, opacities, alpha = ctx.saved_tensors
        C, N, D = len(conics), len(opacities), grad_color.shape[-1]
        grad_color, grad_alpha = grad_color.contiguous(), grad_alpha.contiguous()
        grads = [conics.new_empty(shape) for shape in ((C, N, 2), (C, N, 3), (C, N), (C, N, D))]
        for c, (lists, state, background) in enumerate(ctx.passes):
            composite.backward(
                lists, state, background, _flat(conics[c]), _flat(opacities), grad_color[c].numpy(),
                grad_alpha[c, ..., 0].numpy(), [_flat(g[c]) for g in grads],
            )  # fmt: skip
        grad_means2d, grad_conics, grad_opacities, grad_colors = grads
        grad_backgrounds = (grad_color * (1 - alpha)).sum((1, 2)) if ctx.needs_input_grad[4] else None
        return grad_means2d, grad_conics, grad_opacities.sum(0), grad_colors, grad_backgrounds, *[None] * 3


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
    for k in range(0, D, tiles.CHANNELS):
        part = slice(k, k + tiles.CHANNELS)
        image, alphas = _Composite.apply(
            means2d,
            conics,
            opacities,
            colors[..., part],
            backgrounds[:, part],
            depths.detach(),
            width,
            height,
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
