"""View-dependent colour: c = max(Σ_k Y_k(d) sh_k + 1/2, 0), with d the unit vector from the camera to the mean.

Real spherical harmonics up to degree 3 in Sloan's form ("Efficient spherical harmonic evaluation", JCGT 2013),
in the order and with the signs of gsplat and Inria's rasteriser.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

MAX_DEGREE = 3


@njit(nogil=True, cache=True, inline="always")
def _direction(means, position, i):
    dx = np.float64(means[i, 0]) - position[0]
    dy = np.float64(means[i, 1]) - position[1]
    dz = np.float64(means[i, 2]) - position[2]
    length = max(math.sqrt(dx * dx + dy * dy + dz * dz), 1e-12)
    return dx / length, dy / length, dz / length, length


@njit(nogil=True, cache=True)
def _basis(degree, x, y, z, Y):
    Y[0] = 0.2820947917738781
    if degree >= 1:
        Y[1] = -0.48860251190292 * y
        Y[2] = 0.48860251190292 * z
        Y[3] = -0.48860251190292 * x
    if degree >= 2:
        xx_yy, xy2 = x * x - y * y, 2 * x * y
        Y[4] = 0.5462742152960395 * xy2
        Y[5] = -1.092548430592079 * z * y
        Y[6] = 0.9461746957575601 * z * z - 0.3153915652525201
        Y[7] = -1.092548430592079 * z * x
        Y[8] = 0.5462742152960395 * xx_yy
    if degree >= 3:
        ring = -2.285228997322329 * z * z + 0.4570457994644658
        Y[9] = -0.5900435899266435 * (x * xy2 + y * xx_yy)
        Y[10] = 1.445305721320277 * z * xy2
        Y[11] = ring * y
        Y[12] = z * (1.865881662950577 * z * z - 1.119528997770346)
        Y[13] = ring * x
        Y[14] = 1.445305721320277 * z * xx_yy
        Y[15] = -0.5900435899266435 * (x * xx_yy - y * xy2)


@njit(nogil=True, cache=True)
def _basis_gradient(degree, x, y, z, p):
    """Σ_k p_k ∇Y_k, the gradient with respect to the (unnormalised) x, y, z."""
    gx = -0.48860251190292 * p[3]
    gy = -0.48860251190292 * p[1]
    gz = 0.48860251190292 * p[2]
    if degree >= 2:
        gx += 1.092548430592079 * (p[4] * y - p[7] * z + p[8] * x)
        gy += 1.092548430592079 * (p[4] * x - p[5] * z - p[8] * y)
        gz += -1.092548430592079 * (p[5] * y + p[7] * x) + 2 * 0.9461746957575601 * p[6] * z
    if degree >= 3:
        xx_yy, xy2 = x * x - y * y, 2 * x * y
        ring = -2.285228997322329 * z * z + 0.4570457994644658
        gx += -3 * 0.5900435899266435 * (p[9] * xy2 + p[15] * xx_yy) + ring * p[13]
        gy += -3 * 0.5900435899266435 * (p[9] * xx_yy - p[15] * xy2) + ring * p[11]
        gx += 2 * 1.445305721320277 * z * (p[10] * y + p[14] * x)
        gy += 2 * 1.445305721320277 * z * (p[10] * x - p[14] * y)
        gz += 1.445305721320277 * (p[10] * xy2 + p[14] * xx_yy)
        gz += -2 * 2.285228997322329 * z * (p[11] * y + p[13] * x)
        gz += (3 * 1.865881662950577 * z * z - 1.119528997770346) * p[12]
    return gx, gy, gz


@njit(nogil=True, cache=True)
def shade(start, stop, degree, means, coefficients, position, radii, colors):
    """Colours [N, 3] of Gaussians [start, stop) seen from `position`; zero where culled."""
    Y = np.empty(16)
    for i in range(start, stop):
        colors[i, 0] = colors[i, 1] = colors[i, 2] = 0
        if radii[i, 0] <= 0 or radii[i, 1] <= 0:
            continue
        x, y, z, _ = _direction(means, position, i)
        _basis(degree, x, y, z, Y)
        for c in range(3):
            value = 0.5
            for k in range((degree + 1) ** 2):
                value += Y[k] * coefficients[i, k, c]
            colors[i, c] = max(value, 0.0)


@njit(nogil=True, cache=True)
def shade_adjoint(
    start, stop, degree, means, coefficients, positions, radii, grad_colors, grad_means, grad_coefficients
):
    """Gradients of Gaussians [start, stop), summed over the views in order."""
    bases = (degree + 1) ** 2
    Y, p = np.empty(16), np.empty(16)
    g = np.empty(3)
    for i in range(start, stop):
        gm = (0.0, 0.0, 0.0)
        grad_coefficients[i] = 0
        for view in range(len(positions)):
            if radii[view, i, 0] <= 0 or radii[view, i, 1] <= 0:
                continue
            x, y, z, length = _direction(means, positions[view], i)
            _basis(degree, x, y, z, Y)
            for c in range(3):
                value = 0.5
                for k in range(bases):
                    value += Y[k] * coefficients[i, k, c]
                g[c] = grad_colors[view, i, c] if value >= 0 else 0.0
            for k in range(bases):
                p[k] = 0.0
                for c in range(3):
                    grad_coefficients[i, k, c] += Y[k] * g[c]
                    p[k] += coefficients[i, k, c] * g[c]
            if degree >= 1:
                gx, gy, gz = _basis_gradient(degree, x, y, z, p)
                along = gx * x + gy * y + gz * z
                gm = (
                    gm[0] + (gx - along * x) / length,
                    gm[1] + (gy - along * y) / length,
                    gm[2] + (gz - along * z) / length,
                )
        for k in range(3):
            grad_means[i, k] = gm[k]
