"""One signature, two rasterisers: gsplat on CUDA, our numba kernels on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gs_ssd.render import cpu
from gs_ssd.render.harmonics import MAX_DEGREE
from gs_ssd.scene.gaussians import Rows

RASTERIZE_MODES = ("classic", "antialiased")
RENDER_MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
_SERIAL = 16_384  # elements that torch does not share out among threads
# means, quats, scales, opacities, and the pair of first and other harmonic coefficients, as `rasterization` takes them
Leaves = tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]


def rasterization(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor | tuple[Tensor, Tensor],
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    backgrounds: Tensor | None = None,
    render_mode: str = "RGB",
    rasterize_mode: str = "classic",
    leaves: Leaves | None = None,
    rows: Rows | None = None,
    shown: bool = False,
) -> tuple[Tensor, Tensor, dict]:
    """Render N Gaussians into C views, as `gsplat.rasterization` 1.5.3 does.

    Args:
        means: centres, [N, 3].
        quats: rotations wxyz, normalised here, [N, 4].
        scales: standard deviations along the principal axes, [N, 3].
        opacities: in [0, 1], [N].
        colors: [N, D] or [C, N, D]; with `sh_degree`, harmonic coefficients [N, K, 3] of which the first
            (sh_degree + 1)² are used, or a pair of the first [N, 1, 3] and the others [N, K - 1, 3] (saves a copy).
        viewmats: world-to-camera, [C, 4, 4]. Ks: intrinsics in pixels, [C, 3, 3].
        backgrounds: [C, D]; black if None.
        render_mode: colour, accumulated ("D") or expected ("ED") depth, or both, depth last.
        rasterize_mode: "classic", or "antialiased": opacities are reduced by as much as the blur `eps2d` makes the
            projected Gaussians larger, sqrt(det Σ'₀ / det Σ'). Scenes trained so ("mip") look right only so.
        leaves, rows: the Gaussians that get gradients, M of the N, in tensors of their own, and which those are (None:
            all). A leaf is what a scene stores, scales as logarithms and opacities as logits. On the CPU the leaves
            must hold the values that the N have in these rows, and the others' gradients cost no time. No leaves: the
            other arguments get gradients.
        shown: tell which Gaussians the pictures show, `info["shown"]` [C, N] bool: without the others every bit is the
            same, whatever is put into the scene. On the CPU alone.

    Returns:
        Images [C, H, W, D'], alphas [C, H, W, 1], and `info` with the projected Gaussians. `info["means2d"]`
        [C, N, 2] (pixels) is part of the graph: call `retain_grad()` on it for screen-space gradients.
        A Gaussian is in view where both `info["radii"]` [C, N, 2] are positive.

    Gradients flow to means, quats, scales, opacities, colors and backgrounds; not to the cameras.
    """
    N, C = len(means), len(viewmats)
    shapes = {
        "means": (means, (N, 3)), "quats": (quats, (N, 4)), "scales": (scales, (N, 3)),
        "opacities": (opacities, (N,)), "viewmats": (viewmats, (C, 4, 4)), "Ks": (Ks, (C, 3, 3)),
    }  # fmt: skip
    for name, (value, shape) in shapes.items():
        if value.shape != shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {shape}")
    if render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode is {render_mode!r}, known: {', '.join(RENDER_MODES)}")
    if rasterize_mode not in RASTERIZE_MODES:
        raise ValueError(f"rasterize_mode is {rasterize_mode!r}, known: {', '.join(RASTERIZE_MODES)}")
    _check_colors(colors, N, C, sh_degree)
    if leaves is None and rows is not None:
        raise ValueError("rows need leaves")
    if leaves is not None:
        _check_leaves(leaves, rows, N, colors, sh_degree)

    options = {
        "near_plane": near_plane, "far_plane": far_plane, "eps2d": eps2d, "sh_degree": sh_degree,
        "backgrounds": backgrounds, "render_mode": render_mode, "rasterize_mode": rasterize_mode,
    }  # fmt: skip
    arguments = means, quats, scales, opacities
    if shown and means.is_cuda:
        raise ValueError("what is shown can be told on the CPU alone")
    if means.is_cuda:
        from gs_ssd.render import cuda  # a machine without CUDA need not load gsplat

        if leaves is not None:
            *arguments, colors = _with_leaves((*arguments, colors), activate(*leaves), rows)
        colors = torch.cat(colors, dim=1) if isinstance(colors, tuple) else colors
        return cuda.rasterization(*arguments, colors, viewmats, Ks, width, height, **options)
    return cpu.rasterization(
        *arguments, colors, viewmats, Ks, width, height, **options, leaves=leaves, rows=rows, shown=shown
    )


def activate(means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Any) -> Leaves:
    """What `rasterization` takes of what a scene stores."""
    return means, quats, torch.exp(scales), activated_opacities(opacities), colors


def activated_opacities(logits: Tensor) -> Tensor:
    """Sigmoids [N], the same bits for every number of threads.

    torch computes the last few elements of every thread's share by other code than the rest, which rounds differently.
    """
    if logits.is_cuda or len(logits) <= _SERIAL or torch.get_num_threads() == 1:
        return torch.sigmoid(logits)
    return torch.cat([torch.sigmoid(part) for part in logits.split(_SERIAL)])


def _with_leaves(whole: Any, leaves: Any, rows: Rows | None) -> Any:
    """The whole scene with its leaves in it, as a graph that ends in them."""
    if rows is None:
        return leaves
    if isinstance(whole, tuple):
        return tuple(_with_leaves(part, leaf, rows) for part, leaf in zip(whole, leaves))
    return whole.detach().index_copy(0, rows.places, leaves)


def _check_leaves(leaves: Leaves, rows: Rows | None, N: int, colors, sh_degree: int | None) -> None:
    M = N if rows is None else len(rows.places)
    if rows is not None and (rows.index.dtype != torch.int32 or tuple(rows.index.shape) != (N,)):
        raise ValueError(
            f"rows.index is {rows.index.dtype} {tuple(rows.index.shape)}, expected torch.int32 ({N},)"
        )
    if sh_degree is None or not isinstance(colors, tuple):
        raise ValueError("leaves need colors as a pair of harmonic coefficients")
    means, quats, scales, opacities, pair = leaves
    shapes = [value.shape for value in (means, quats, scales, opacities, *pair)]
    expected = [(M, 3), (M, 4), (M, 3), (M,), (M, *colors[0].shape[1:]), (M, *colors[1].shape[1:])]
    if shapes != expected:
        raise ValueError(f"leaves have shapes {[tuple(shape) for shape in shapes]}, expected {expected}")


def _check_colors(colors: Tensor | tuple[Tensor, Tensor], N: int, C: int, sh_degree: int | None) -> None:
    if sh_degree is None:
        if isinstance(colors, tuple) or colors.shape[:-1] not in ((N,), (C, N)):
            shape = [tuple(x.shape) for x in colors] if isinstance(colors, tuple) else tuple(colors.shape)
            raise ValueError(f"colors has shape {shape}, expected ({N}, D) or ({C}, {N}, D)")
        return
    if not 0 <= sh_degree <= MAX_DEGREE:
        raise ValueError(f"sh_degree is {sh_degree}, expected 0 to {MAX_DEGREE}")
    parts = colors if isinstance(colors, tuple) else (colors,)
    bases = (sh_degree + 1) ** 2
    if (
        any(part.dim() != 3 or part.shape[0] != N or part.shape[2] != 3 for part in parts)
        or sum(part.shape[1] for part in parts) < bases
        or parts[0].shape[1] < 1
        or (len(parts) == 2 and parts[0].shape[1] != 1)
    ):
        shapes = " and ".join(str(tuple(part.shape)) for part in parts)
        raise ValueError(f"colors has shape {shapes}, expected ({N}, K, 3) with K >= {bases}")
