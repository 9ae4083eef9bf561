"""View-dependent colour: c = max(Σ_k Y_k(d) sh_k + 1/2, 0), with d the unit vector from the camera to the mean.

Real spherical harmonics up to degree 3 in Sloan's form ("Efficient spherical harmonic evaluation", JCGT 2013),
in the order and with the signs of gsplat and Inria's rasteriser.
"""

from __future__ import annotations

import numpy as np

from gs_ssd.render.compilation import entry_point, kernel
from gs_ssd.render.simd import (
    LANES,
    fill_lanes,
    fma,
    gather,
    inlined,
    load,
    maximum,
    scatter,
    select,
    splat,
    sqrt,
    store,
)
from gs_ssd.render.threads import GRAIN, parallel

MAX_DEGREE = 3
_BASES = (MAX_DEGREE + 1) ** 2


@inlined
def _direction(means, position, lanes):
    """The unit vector from the camera and 1 / the distance."""
    x = gather(means, lanes, 3, 0) - position[0]
    y = gather(means, lanes, 3, 1) - position[1]
    z = gather(means, lanes, 3, 2) - position[2]
    inverse = 1.0 / maximum(sqrt(x * x + y * y + z * z), 1e-12)
    return x * inverse, y * inverse, z * inverse, inverse


@inlined
def _basis(degree, x, y, z, Y):
    """Y_0 .. Y_{(degree + 1)² - 1} as consecutive vectors of the buffer Y."""
    store(Y, 0, 0.2820947917738781)
    if degree >= 1:
        store(Y, 1 * LANES, -0.48860251190292 * y)
        store(Y, 2 * LANES, 0.48860251190292 * z)
        store(Y, 3 * LANES, -0.48860251190292 * x)
    if degree >= 2:
        xx_yy, xy2 = x * x - y * y, 2.0 * x * y
        store(Y, 4 * LANES, 0.5462742152960395 * xy2)
        store(Y, 5 * LANES, -1.092548430592079 * z * y)
        store(Y, 6 * LANES, 0.9461746957575601 * z * z - 0.3153915652525201)
        store(Y, 7 * LANES, -1.092548430592079 * z * x)
        store(Y, 8 * LANES, 0.5462742152960395 * xx_yy)
        if degree >= 3:
            ring = -2.285228997322329 * z * z + 0.4570457994644658
            store(Y, 9 * LANES, -0.5900435899266435 * (x * xy2 + y * xx_yy))
            store(Y, 10 * LANES, 1.445305721320277 * z * xy2)
            store(Y, 11 * LANES, ring * y)
            store(Y, 12 * LANES, z * (1.865881662950577 * z * z - 1.119528997770346))
            store(Y, 13 * LANES, ring * x)
            store(Y, 14 * LANES, 1.445305721320277 * z * xx_yy)
            store(Y, 15 * LANES, -0.5900435899266435 * (x * xx_yy - y * xy2))


@inlined
def _basis_gradient(degree, x, y, z, p):
    """Σ_k p_k ∇Y_k for degree >= 1: the gradient with respect to x, y, z before they are normalised."""
    gx = -0.48860251190292 * load(p, 3 * LANES)
    gy = -0.48860251190292 * load(p, 1 * LANES)
    gz = 0.48860251190292 * load(p, 2 * LANES)
    if degree >= 2:
        p4, p5, p6 = load(p, 4 * LANES), load(p, 5 * LANES), load(p, 6 * LANES)
        p7, p8 = load(p, 7 * LANES), load(p, 8 * LANES)
        gx += 1.092548430592079 * (p4 * y - p7 * z + p8 * x)
        gy += 1.092548430592079 * (p4 * x - p5 * z - p8 * y)
        gz += 1.8923493915151202 * p6 * z - 1.092548430592079 * (p5 * y + p7 * x)
    if degree >= 3:
        p9, p10, p11, p12 = load(p, 9 * LANES), load(p, 10 * LANES), load(p, 11 * LANES), load(p, 12 * LANES)
        p13, p14, p15 = load(p, 13 * LANES), load(p, 14 * LANES), load(p, 15 * LANES)
        xx_yy, xy2 = x * x - y * y, 2.0 * x * y
        ring = -2.285228997322329 * z * z + 0.4570457994644658
        gx += ring * p13 - 1.7701307697799304 * (p9 * xy2 + p15 * xx_yy)
        gy += ring * p11 - 1.7701307697799304 * (p9 * xx_yy - p15 * xy2)
        gx += 2.890611442640554 * z * (p10 * y + p14 * x)
        gy += 2.890611442640554 * z * (p10 * x - p14 * y)
        gz += 1.445305721320277 * (p10 * xy2 + p14 * xx_yy) - 4.570457994644658 * z * (p11 * y + p13 * x)
        gz += (5.597644988851731 * z * z - 1.119528997770346) * p12
    return gx, gy, gz


@inlined
def _evaluate(bases, Y, coefficients, lanes, stride):
    r = splat(coefficients, 0.5)
    g = b = r
    for k in range(bases):
        y = load(Y, k * LANES)
        r = fma(y, gather(coefficients, lanes, stride, 3 * k), r)
        g = fma(y, gather(coefficients, lanes, stride, 3 * k + 1), g)
        b = fma(y, gather(coefficients, lanes, stride, 3 * k + 2), b)
    return r, g, b


@entry_point
def shade(team, degree, means, coefficients, viewmats, conics, colors):
    """Colours [C, N, 3] of means [N, 3] with coefficients [N, K, 3]; zero where culled (conics [C, N, 3] are 0)."""
    stride = 3 * coefficients.shape[1]
    for c, position in enumerate(_positions(viewmats)):
        parallel(team, _shade, len(means), GRAIN, (degree, means.reshape(-1), coefficients.reshape(-1), stride,
                 position, conics[c].reshape(-1), colors[c].reshape(-1)))  # fmt: skip


@entry_point
def shade_adjoint(
    team, degree, means, coefficients, viewmats, conics, grad_colors, grad_means, grad_coefficients
):
    """The gradients with respect to means and coefficients, of the shapes of `shade`'s arguments."""
    stride = 3 * coefficients.shape[1]
    parallel(team, _shade_adjoint, len(means), GRAIN, (degree, means.reshape(-1), coefficients.reshape(-1), stride,
             _positions(viewmats), conics.reshape(-1), grad_colors.reshape(-1), grad_means.reshape(-1),
             grad_coefficients.reshape(-1)))  # fmt: skip


@inlined
def _positions(viewmats):
    """Where the cameras are, [C, 3]."""
    positions = np.empty((len(viewmats), 3))
    for c in range(len(viewmats)):
        for i in range(3):
            positions[c, i] = 0.0
            for k in range(3):
                positions[c, i] -= np.float64(viewmats[c, k, i]) * viewmats[c, k, 3]
    return positions


@kernel
def _shade(start, stop, degree, means, coefficients, stride, position, conics, colors):
    """Colours [N * 3] of Gaussians [start, stop) seen from `position`; zero where culled (conic 0).

    `coefficients` [N * stride] has stride = 3 K.
    """
    bases = (degree + 1) ** 2
    zero = splat(means, 0.0)
    lanes = np.empty(LANES, np.int64)
    Y = np.empty(_BASES * LANES, means.dtype)
    for i in range(start, stop, LANES):
        fill_lanes(lanes, i, stop)
        seen = gather(conics, lanes, 3, 0) > 0.0
        x, y, z, _ = _direction(means, position, lanes)
        _basis(degree, x, y, z, Y)
        r, g, b = _evaluate(bases, Y, coefficients, lanes, stride)
        scatter(colors, lanes, 3, 0, select(seen & ~(r < 0.0), r, zero))
        scatter(colors, lanes, 3, 1, select(seen & ~(g < 0.0), g, zero))
        scatter(colors, lanes, 3, 2, select(seen & ~(b < 0.0), b, zero))


@kernel
def _shade_adjoint(
    start,
    stop,
    degree,
    means,
    coefficients,
    stride,
    positions,
    conics,
    grad_colors,
    grad_means,
    grad_coefficients,
):
    """Gradients of Gaussians [start, stop), summed over the views in order (conics [C * N * 3])."""
    count, bases = len(means) // 3, (degree + 1) ** 2
    zero = splat(means, 0.0)
    lanes, at = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    Y, p = np.empty(_BASES * LANES, means.dtype), np.empty(_BASES * LANES, means.dtype)
    total = np.empty(3 * _BASES * LANES, means.dtype)
    for i in range(start, stop, LANES):
        fill_lanes(lanes, i, stop)
        total[:] = 0
        gmx = gmy = gmz = zero
        for view in range(len(positions)):
            for lane in range(LANES):
                at[lane] = view * count + lanes[lane]
            seen = gather(conics, at, 3, 0) > 0.0
            x, y, z, inverse = _direction(means, positions[view], lanes)
            _basis(degree, x, y, z, Y)
            r, g, b = _evaluate(bases, Y, coefficients, lanes, stride)
            seen = seen & ((r + g + b) - (r + g + b) <= 0.0)  # neither infinite nor NaN
            gr = select(seen & (r >= 0.0), gather(grad_colors, at, 3, 0), zero)
            gg = select(seen & (g >= 0.0), gather(grad_colors, at, 3, 1), zero)
            gb = select(seen & (b >= 0.0), gather(grad_colors, at, 3, 2), zero)
            for k in range(bases):
                basis = select(seen, load(Y, k * LANES), zero)
                store(total, (3 * k) * LANES, fma(basis, gr, load(total, (3 * k) * LANES)))
                store(total, (3 * k + 1) * LANES, fma(basis, gg, load(total, (3 * k + 1) * LANES)))
                store(total, (3 * k + 2) * LANES, fma(basis, gb, load(total, (3 * k + 2) * LANES)))
            if degree >= 1:
                for k in range(bases):
                    q = gr * gather(coefficients, lanes, stride, 3 * k)
                    q = fma(gg, gather(coefficients, lanes, stride, 3 * k + 1), q)
                    store(p, k * LANES, fma(gb, gather(coefficients, lanes, stride, 3 * k + 2), q))
                gx, gy, gz = _basis_gradient(degree, x, y, z, p)
                along = gx * x + gy * y + gz * z
                gmx += select(seen, (gx - along * x) * inverse, zero)
                gmy += select(seen, (gy - along * y) * inverse, zero)
                gmz += select(seen, (gz - along * z) * inverse, zero)
        scatter(grad_means, lanes, 3, 0, gmx)
        scatter(grad_means, lanes, 3, 1, gmy)
        scatter(grad_means, lanes, 3, 2, gmz)
        for k in range(3 * bases):
            scatter(grad_coefficients, lanes, stride, k, load(total, k * LANES))
        for k in range(3 * bases, stride):
            scatter(grad_coefficients, lanes, stride, k, zero)
