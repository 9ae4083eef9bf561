"""The CPU rasteriser: two autograd functions (project, composite) around the numba kernels.

No kernel returns an array: numba calls Python code to make one, gets an error from it where a Ctrl-C is pending, and
does not notice. So every array is allocated here, and a kernel returns nothing or a number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable as _once_differentiable

from gs_ssd.errors import UserError
from gs_ssd.render import composite, projection, tiles
from gs_ssd.render.threads import GRAIN, run

# glibc hands freed memory back once twice the largest block freed so far lies idle, and clears it page by page when it
# is asked for again, in every call. Having freed this one, which no page was taken for, it keeps 64 MB.
_ = np.empty(2**25 - 2**16, np.uint8)
del _

_MANY = 2048  # Gaussians whose projection is worth handing over
_MOST_PAIRS = 2**31 - 1
_NOWHERE = np.empty(0, np.int32)
_LIKE = {torch.float32: np.empty(0, np.float32), torch.float64: np.empty(0, np.float64)}


@dataclass
class _Camera:
    """One view, and the rows of its Gaussians (see `projection`).

    Attributes:
        matrices: [7, 4] float64, the world-to-camera matrix and the intrinsics.
        limits: width, height, near, far, eps2d.
        options: antialiased, degree of the harmonics (-1: plain colours), channel that shows the depth (-1: none).
        targets: [N] int32, in which row a Gaussian's gradient stands (-1: it wants none), empty for all in order.
        ids, visible, candidates, pairs: filled by `projection.project`.
        state: filled by `composite.forward`.
    """

    matrices: np.ndarray
    limits: tuple[float, float, float, float, float]
    options: tuple[int, int, int]
    targets: np.ndarray
    ids: np.ndarray
    visible: np.ndarray
    candidates: np.ndarray
    pairs: int = 0
    state: tuple = ()


def _addresses(view: int, *tensors: Tensor | None) -> tuple[int, ...]:
    """Where a view's part of contiguous tensors [C, ...] begins, 0 where there is none: cheaper than numpy's views."""
    return tuple([0 if x is None else (x[view] if view else x).data_ptr() for x in tensors])


def once_differentiable(backward):
    """torch's, which costs as much as a small kernel, where somebody asks for the derivative of a gradient."""
    checked = _once_differentiable(backward)
    return lambda ctx, *grads: (checked if torch.is_grad_enabled() else backward)(ctx, *grads)


def _run(kernel, count, *args):
    return run(kernel, *args) if count >= _MANY else kernel(0, *args)


class _Project(torch.autograd.Function):
    """Gaussians -> means2d [C, N, 2], depths [C, N], conics [C, N, 3], records [C, N + 1, 16], radii,
    compensations.

    The colours are the columns COLOR ... of the records. The gradient of `records` has no other meaning than that
    which `_Composite` gives it (see `projection`); in these columns it is that of the colours.

    base [N, 1, 3] and rest [N, K - 1, 3] hold the harmonic coefficients, or base the plain colours [N, D] or
    [C, N, D]. `whole` holds the six tensors of all Gaussians where those with gradients are leaves, see
    `rasterization`.
    """

    @staticmethod
    def forward(ctx, means, quats, scales, opacities, base, rest, whole, cameras):
        values = whole or (means, quats, scales, opacities, base, rest)
        C, N, antialiased = len(cameras), len(values[0]), cameras[0].options[0]
        means2d, depths, conics = means.new_empty(C, N, 2), means.new_empty(C, N), means.new_empty(C, N, 3)
        records = means.new_empty(C, N + 1, tiles.RECORD)  # the kernel may write one past the last
        radii = torch.empty(C, N, 2, dtype=torch.int32)
        compensations = means.new_empty(C, N if antialiased else 0)
        for c, camera in enumerate(cameras):
            camera.pairs = _run(
                projection.project, N, _LIKE[means.dtype], camera.matrices, camera.limits, camera.options,
                *_gaussians(values, c, camera),
                _addresses(c, radii, means2d, depths, conics, compensations, records),
                camera.ids, camera.visible, camera.candidates,
            )  # fmt: skip
        ctx.save_for_backward(means, quats, scales, opacities, base, rest, conics)
        ctx.whole, ctx.cameras = whole, cameras
        ctx.mark_non_differentiable(radii, compensations)
        ctx.set_materialize_grads(False)
        return means2d, depths, conics, records, radii, compensations

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_means2d, grad_depths, grad_conics, grad_records, *_):
        *leaves, conics = ctx.saved_tensors
        values = ctx.whole or leaves
        means, base = values[0], values[4]
        C, N = len(ctx.cameras), len(means)
        if grad_means2d is None:
            grad_means2d = means.new_zeros(C, N, 2)
        if grad_records is None:
            grad_records = means.new_zeros(C, N + 1, tiles.RECORD)
        # The kernel clears what it writes first, but where the leaves are some of many it goes through the many.
        some = len(ctx.cameras[0].targets) > 0
        grads = [torch.zeros_like(x) if some else torch.empty_like(x) for x in leaves]
        if _is_by_view(base, ctx.cameras[0]):
            grads[4].zero_()
        given = [
            x if x is None else x.contiguous()
            for x in (conics, grad_records, grad_means2d, grad_depths, grad_conics)
        ]
        for c, camera in enumerate(ctx.cameras):
            strides, gaussians = _gaussians(values, c, camera)
            _run(
                projection.project_adjoint, N, _LIKE[means.dtype], camera.matrices, camera.limits, camera.options,
                strides, gaussians, camera.ids, camera.visible, camera.targets, _addresses(c, *given),
                _gaussians(grads, c, camera)[1], some or c > 0, ctx.whole is not None,
            )  # fmt: skip
        return *grads, None, None


def _is_by_view(base: Tensor, camera: _Camera) -> bool:
    """Whether these are plain colours, others in every view."""
    return base.dim() == 3 and camera.options[1] < 0


def _gaussians(values, view: int, camera: _Camera):
    """How far apart the base and the rest of two Gaussians are, and where the six tensors begin that a view sees."""
    means, quats, scales, opacities, base, rest = values
    base = base[view] if _is_by_view(base, camera) else base
    N = max(len(means), 1)
    return (base.numel() // N, rest.numel() // N), _addresses(0, means, quats, scales, opacities, base, rest)


class _Composite(torch.autograd.Function):
    """Records of C views, backgrounds [C, D <= 4] -> [C, H, W, D], [C, H, W, 1].

    Of the gradient of the records, that of the centres goes to means2d.
    """

    @staticmethod
    def forward(ctx, records, means2d, backgrounds, conics, depths, cameras, width, height):
        C, D = backgrounds.shape
        color, alpha = records.new_empty(C, height, width, D), records.new_empty(C, height, width, 1)
        for c, camera in enumerate(cameras):
            camera.state = _state(camera, records, width, height)
            run(
                composite.forward, _LIKE[records.dtype], (height, width, D),
                _addresses(c, records, depths, backgrounds), camera.ids, camera.visible, camera.candidates,
                camera.targets, *camera.state, _addresses(c, color, alpha),
            )  # fmt: skip
        ctx.save_for_backward(records, conics, backgrounds, alpha)
        ctx.set_materialize_grads(False)
        ctx.cameras = cameras
        return color, alpha

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_color, grad_alpha):
        records, conics, backgrounds, alpha = ctx.saved_tensors
        if grad_color is None:
            grad_color = records.new_zeros(*alpha.shape[:3], backgrounds.shape[1])
        grad_color, grad_alpha = (
            grad_color.contiguous(),
            grad_alpha if grad_alpha is None else grad_alpha.contiguous(),
        )
        grad_rows = torch.empty_like(records)
        grad_means2d = records.new_empty(*conics.shape[:2], 2)
        for c, camera in enumerate(ctx.cameras):
            run(
                composite.backward, _LIKE[records.dtype], tuple(grad_color.shape[1:]),
                _addresses(c, records, conics, backgrounds), camera.ids, camera.visible, camera.targets,
                *camera.state, _addresses(c, grad_color, grad_alpha), _addresses(c, grad_rows, grad_means2d),
            )  # fmt: skip
        grad_backgrounds = (grad_color * (1 - alpha)).sum((1, 2)) if ctx.needs_input_grad[2] else None
        return grad_rows, grad_means2d, grad_backgrounds, *[None] * 5


def _state(camera: _Camera, like: Tensor, width: int, height: int):
    """Room for what `composite.forward` keeps for its adjoint. What is not filled takes no memory."""
    if camera.pairs > _MOST_PAIRS:
        raise UserError(f"{camera.pairs:,} pairs of a Gaussian and a tile are too many; lower the resolution")
    count = -(-width // tiles.TILE) * -(-height // tiles.TILE)
    dtype = np.float32 if like.dtype == torch.float32 else np.float64
    return (
        np.empty(tiles.SLOT_FIELDS * camera.pairs, np.int32),
        np.empty(2 * len(camera.ids), np.int32),
        np.empty(count + 1, np.int64),
        np.empty(tiles.ENTRY * (camera.pairs + composite.WORD), np.int32),  # 64 are read at a time
        np.empty(count * tiles.TILE**2, dtype),
        np.empty(count * tiles.TILE**2, dtype),
        np.empty(2 * count, np.int64),
    )


def _matrices(viewmats: Tensor, Ks: Tensor) -> np.ndarray:
    """World-to-camera matrices and intrinsics of C views, [C, 7, 4] float64."""
    matrices = np.zeros((len(viewmats), 7, 4))
    matrices[:, :4], matrices[:, 4:, :3] = viewmats.numpy(force=True), Ks.numpy(force=True)
    return matrices


def _camera(matrices, limits, options, targets, count) -> _Camera:
    chunks = -(-count // GRAIN)
    ids, visible, candidates = (
        np.empty(count + 1, np.int32),
        np.empty(chunks, np.int64),
        np.empty(chunks, np.int64),
    )
    return _Camera(matrices, limits, options, targets, ids, visible, candidates)


def rasterization(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, *,
    near_plane, far_plane, eps2d, sh_degree, backgrounds, render_mode, rasterize_mode, leaves, rows, shown,
):  # fmt: skip
    """See `gs_ssd.render.rasterization`, which has checked the arguments. `colors` may be a pair (sh0, shN)."""
    C, N = len(viewmats), len(means)
    if max(width, height) > tiles.MAX_SIZE:
        raise UserError(f"an image of {width} x {height} is too large, at most {tiles.MAX_SIZE} on a side")
    passes = _passes(colors, sh_degree, render_mode, means)
    D = sum(channels for _, _, _, channels in passes)
    if backgrounds is None:
        backgrounds = means.new_zeros(C, D)
    elif render_mode != "RGB":  # depth has no background
        backgrounds = torch.cat([backgrounds[:, : D - 1], backgrounds.new_zeros(C, 1)], dim=-1)
    gaussians = [x.contiguous() for x in (means, quats, scales, opacities)]
    _check_types(means, *gaussians, *(x for base, rest, _, _ in passes for x in (base, rest)), backgrounds)
    matrices = _matrices(viewmats, Ks)
    limits = (float(width), float(height), float(near_plane), float(far_plane), float(eps2d))
    targets = _NOWHERE if rows is None else rows.index.contiguous().numpy()
    own, own_passes = gaussians, passes
    if leaves is not None:
        own = [x.contiguous() for x in leaves[:4]]
        own_passes = _passes(leaves[4], sh_degree, render_mode, leaves[0])
        _check_types(means, *own, *(x for base, rest, _, _ in own_passes for x in (base, rest)))

    marks = torch.zeros(C, N, dtype=torch.bool) if shown else None
    images, first, start = [], None, 0
    for (base, rest, depth_channel, channels), (own_base, own_rest, _, _) in zip(passes, own_passes):
        background = backgrounds[:, start : start + channels] if len(passes) > 1 else backgrounds
        start += channels
        degree = sh_degree if sh_degree is not None and base.shape[-1] else -1
        options = (int(rasterize_mode == "antialiased"), degree, depth_channel)
        cameras = [_camera(matrices[c], limits, options, targets, N) for c in range(C)]
        whole = None if leaves is None else (*gaussians, base, rest)
        projected = _Project.apply(*own, own_base, own_rest, whole, cameras)
        first = first or projected
        image, alphas = _Composite.apply(
            projected[3],
            first[0],
            background.contiguous(),
            first[2].detach(),
            first[1].detach(),
            cameras,
            width,
            height,
        )
        images.append(image)
        for camera, mark in zip(cameras, () if marks is None else marks.numpy()):
            _, _, firsts, entries, _, stops, ends = camera.state
            run(composite.mark, camera.ids, firsts, entries, stops, ends, mark)
    means2d, depths, conics, _, radii, compensations = first
    image = images[0] if len(images) == 1 else torch.cat(images, dim=-1)
    if render_mode in ("ED", "RGB+ED"):
        image = torch.cat([image[..., :-1], image[..., -1:] / alphas.clamp(min=1e-10)], dim=-1)
    info = {
        "means2d": means2d,
        "radii": radii,
        "depths": depths,
        "conics": conics,
        "opacities": opacities * compensations if rasterize_mode == "antialiased" else opacities.expand(C, N),
        "width": width,
        "height": height,
        "tile_size": tiles.TILE,
        "n_cameras": C,
    }
    if shown:
        info["shown"] = marks
    return image, alphas, info


def _check_types(means, *others):
    """The kernels read memory, and so trust that all tensors are alike."""
    if means.dtype not in _LIKE or any(x.dtype != means.dtype or x.is_cuda for x in others):
        kinds = sorted({f"{x.dtype} on {x.device}" for x in (means, *others)})
        raise ValueError(
            f"tensors are {', '.join(kinds)}; expected all torch.float32 or all torch.float64 on cpu"
        )


def _passes(colors, sh_degree, render_mode, means):
    """What is composited at a time, at most 4 channels: (base, rest, depth channel or -1, channels)."""
    depth = int(render_mode != "RGB")
    if sh_degree is not None and render_mode not in ("D", "ED"):
        sh0, shN = colors if isinstance(colors, tuple) else (colors[:, :1], colors[:, 1:])
        base, rest = sh0.contiguous(), shN.contiguous()
        return [(base, rest, 3 if depth else -1, 3 + depth)]
    nothing = means.new_empty(len(means), 0)
    if render_mode in ("D", "ED"):
        return [(nothing, nothing, 0, 1)]
    parts = list(colors.split(tiles.CHANNELS, -1)) if colors.shape[-1] > tiles.CHANNELS else [colors]
    passes = [(part.contiguous(), nothing, -1, part.shape[-1]) for part in parts]
    if depth:
        base, rest, _, channels = passes[-1]
        if channels < tiles.CHANNELS:
            passes[-1] = (base, rest, channels, channels + 1)
        else:
            passes.append((nothing, nothing, 0, 1))
    return passes
