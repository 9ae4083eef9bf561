"""One signature, two rasterisers: gsplat on CUDA, our numba kernels on the CPU."""

from __future__ import annotations

from torch import Tensor

from gs_ssd.render import cpu
from gs_ssd.render.harmonics import MAX_DEGREE

RENDER_MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")


def rasterization(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
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
) -> tuple[Tensor, Tensor, dict]:
    """Render N Gaussians into C views, as `gsplat.rasterization` 1.5.3 does.

    Args:
        means: centres, [N, 3].
        quats: rotations wxyz, normalised here, [N, 4].
        scales: standard deviations along the principal axes, [N, 3].
        opacities: in [0, 1], [N].
        colors: [N, D] or [C, N, D]; with `sh_degree`, harmonic coefficients [N, K, 3] of which the first
            (sh_degree + 1)² are used.
        viewmats: world-to-camera, [C, 4, 4]. Ks: intrinsics in pixels, [C, 3, 3].
        backgrounds: [C, D]; black if None.
        render_mode: colour, accumulated ("D") or expected ("ED") depth, or both, depth last.

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
        if tuple(value.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {shape}")
    if render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode is {render_mode!r}, known: {', '.join(RENDER_MODES)}")
    if sh_degree is None:
        if colors.shape[:-1] not in ((N,), (C, N)):
            raise ValueError(f"colors has shape {tuple(colors.shape)}, expected ({N}, D) or ({C}, {N}, D)")
    elif not 0 <= sh_degree <= MAX_DEGREE:
        raise ValueError(f"sh_degree is {sh_degree}, expected 0 to {MAX_DEGREE}")
    elif (
        colors.dim() != 3
        or colors.shape[0] != N
        or colors.shape[2] != 3
        or colors.shape[1] < (sh_degree + 1) ** 2
    ):
        raise ValueError(
            f"colors has shape {tuple(colors.shape)}, expected ({N}, K, 3) with K >= {(sh_degree + 1) ** 2}"
        )

    if means.is_cuda:
        from gs_ssd.render import cuda  # a machine without CUDA need not load gsplat

        backend = cuda.rasterization
    else:
        backend = cpu.rasterization
    return backend(
        means, quats, scales, opacities, colors, viewmats, Ks, width, height,
        near_plane=near_plane, far_plane=far_plane, eps2d=eps2d, sh_degree=sh_degree,
        backgrounds=backgrounds, render_mode=render_mode,
    )  # fmt: skip
