"""EWA projection of 3D Gaussians to the image plane, and its adjoint.

With the camera-space mean t = R m + τ, the world covariance Σ = M Mᵀ (M = R_q diag(s)) and the Jacobian J of the
pinhole projection at t (its direction clamped to 1.3 times the field of view, as in gsplat),

    μ = (f_x t_x / t_z + c_x, f_y t_y / t_z + c_y),     Σ' = J R Σ Rᵀ Jᵀ + eps2d I,     Q = Σ'⁻¹.

References: Zwicker et al., "EWA splatting" (2002); gsplat 1.5.3, `_torch_impl._fully_fused_projection` and
`ProjectionEWA3DGSFused.cu` (opacity-aware radii: Radl et al. 2024, arXiv:2402.00525 §B.2).
The arithmetic is float64 whatever the storage: the determinant of a needle cancels badly in float32.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

ALPHA_MIN = 1 / 255
MAX_EXTENT = 3.33  # standard deviations; exp(-3.33² / 2) is just below 1/255


@njit(nogil=True, cache=True, inline="always")
def _rotation(qw, qx, qy, qz):
    """Rotation matrix of a unit quaternion, row by row."""
    return (
        (1 - 2 * (qy * qy + qz * qz), 2 * (qx * qy - qw * qz), 2 * (qx * qz + qw * qy)),
        (2 * (qx * qy + qw * qz), 1 - 2 * (qx * qx + qz * qz), 2 * (qy * qz - qw * qx)),
        (2 * (qx * qz - qw * qy), 2 * (qy * qz + qw * qx), 1 - 2 * (qx * qx + qy * qy)),
    )


@njit(nogil=True, cache=True, inline="always")
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(nogil=True, cache=True, inline="always")
def _transform(rows, v):
    return (_dot(rows[0], v), _dot(rows[1], v), _dot(rows[2], v))


@njit(nogil=True, cache=True, inline="always")
def _transposed(m):
    return (
        (m[0][0], m[1][0], m[2][0]),
        (m[0][1], m[1][1], m[2][1]),
        (m[0][2], m[1][2], m[2][2]),
    )


@njit(nogil=True, cache=True, inline="always")
def _view(viewmat, K, width, height):
    """Rotation rows, translation, intrinsics and the clamp limits of t/z, all float64."""
    rows = (
        (viewmat[0, 0], viewmat[0, 1], viewmat[0, 2]),
        (viewmat[1, 0], viewmat[1, 1], viewmat[1, 2]),
        (viewmat[2, 0], viewmat[2, 1], viewmat[2, 2]),
    )
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
    limits = (
        -cx / fx - margin_x,
        (width - cx) / fx + margin_x,
        -cy / fy - margin_y,
        (height - cy) / fy + margin_y,
    )
    return rows, (viewmat[0, 3], viewmat[1, 3], viewmat[2, 3]), (fx, fy, cx, cy), limits


@njit(nogil=True, cache=True, inline="always")
def _gaussian(means, quats, scales, i):
    """Mean, unit quaternion, its norm and the standard deviations of Gaussian i in float64."""
    m = (np.float64(means[i, 0]), np.float64(means[i, 1]), np.float64(means[i, 2]))
    s = (np.float64(scales[i, 0]), np.float64(scales[i, 1]), np.float64(scales[i, 2]))
    w, x, y, z = (
        np.float64(quats[i, 0]),
        np.float64(quats[i, 1]),
        np.float64(quats[i, 2]),
        np.float64(quats[i, 3]),
    )
    norm = max(math.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    return m, (w / norm, x / norm, y / norm, z / norm), norm, s


@njit(nogil=True, cache=True, inline="always")
def _camera_space(rows, translation, m, q, s):
    """t, and A = R R_q (rows), so that the camera-space covariance is A diag(s²) Aᵀ."""
    t = _transform(rows, m)
    columns = _transposed(_rotation(q[0], q[1], q[2], q[3]))
    a = _transposed(
        (_transform(rows, columns[0]), _transform(rows, columns[1]), _transform(rows, columns[2]))
    )
    return (t[0] + translation[0], t[1] + translation[1], t[2] + translation[2]), a


@njit(nogil=True, cache=True, inline="always")
def _image_axes(t, a, intrinsics, limits):
    """The rows of J A [2, 3] with the clamped direction (kx, ky) = clamp(t / t_z)."""
    fx, fy = intrinsics[0], intrinsics[1]
    kx = min(max(t[0] / t[2], limits[0]), limits[1])
    ky = min(max(t[1] / t[2], limits[2]), limits[3])
    gx, gy = fx / t[2], fy / t[2]
    px = (gx * (a[0][0] - kx * a[2][0]), gx * (a[0][1] - kx * a[2][1]), gx * (a[0][2] - kx * a[2][2]))
    py = (gy * (a[1][0] - ky * a[2][0]), gy * (a[1][1] - ky * a[2][1]), gy * (a[1][2] - ky * a[2][2]))
    return kx, ky, px, py


@njit(nogil=True, cache=True, inline="always")
def _covariance(px, py, s, eps2d):
    """Σ'_xx, Σ'_xy, Σ'_yy."""
    ux, uy = (px[0] * s[0], px[1] * s[1], px[2] * s[2]), (py[0] * s[0], py[1] * s[1], py[2] * s[2])
    return _dot(ux, ux) + eps2d, _dot(ux, uy), _dot(uy, uy) + eps2d


@njit(nogil=True, cache=True)
def project(
    start, stop, means, quats, scales, opacities, viewmat, K, width, height, near, far, eps2d,
    radii, means2d, depths, conics,
):  # fmt: skip
    """Project Gaussians [start, stop) into one view. Culled ones get zeros; comparisons cull non-finite ones."""
    rows, translation, intrinsics, limits = _view(viewmat, K, width, height)
    fx, fy, cx, cy = intrinsics
    for i in range(start, stop):
        radii[i, 0] = radii[i, 1] = 0
        means2d[i, 0] = means2d[i, 1] = depths[i] = conics[i, 0] = conics[i, 1] = conics[i, 2] = 0
        m, q, norm, s = _gaussian(means, quats, scales, i)
        z = _dot(rows[2], m) + translation[2]
        opacity = np.float64(opacities[i])
        if not (near <= z <= far and ALPHA_MIN <= opacity < math.inf):
            continue
        t, a = _camera_space(rows, translation, m, q, s)
        kx, ky, px, py = _image_axes(t, a, intrinsics, limits)
        xx, xy, yy = _covariance(px, py, s, eps2d)
        det = xx * yy - xy * xy
        if not 0 < det < math.inf:
            continue
        extent = min(MAX_EXTENT, math.sqrt(2 * math.log(opacity / ALPHA_MIN)))
        radius_x, radius_y = math.ceil(extent * math.sqrt(xx)), math.ceil(extent * math.sqrt(yy))
        x, y = fx * t[0] / t[2] + cx, fy * t[1] / t[2] + cy
        if not (-radius_x < x < width + radius_x and -radius_y < y < height + radius_y):
            continue
        radii[i, 0], radii[i, 1] = min(radius_x, 1 << 30), min(radius_y, 1 << 30)
        means2d[i, 0], means2d[i, 1], depths[i] = x, y, t[2]
        conics[i, 0], conics[i, 1], conics[i, 2] = yy / det, -xy / det, xx / det


@njit(nogil=True, cache=True)
def project_adjoint(
    start, stop, means, quats, scales, viewmats, Ks, width, height, eps2d, radii,
    grad_means2d, grad_depths, grad_conics, grad_means, grad_quats, grad_scales,
):  # fmt: skip
    """Gradients of Gaussians [start, stop), summed over the views in order."""
    for i in range(start, stop):
        m, q, norm, s = _gaussian(means, quats, scales, i)
        gm = (0.0, 0.0, 0.0)
        gs = (0.0, 0.0, 0.0)
        gq = (0.0, 0.0, 0.0, 0.0)
        for view in range(len(viewmats)):
            if radii[view, i, 0] <= 0 or radii[view, i, 1] <= 0:
                continue
            rows, translation, intrinsics, limits = _view(viewmats[view], Ks[view], width, height)
            fx, fy, cx, cy = intrinsics
            t, a = _camera_space(rows, translation, m, q, s)
            kx, ky, px, py = _image_axes(t, a, intrinsics, limits)
            xx, xy, yy = _covariance(px, py, s, eps2d)
            det = xx * yy - xy * xy

            # Q = Σ'⁻¹:  ∂L/∂Σ' = -Q (∂L/∂Q) Q, with the off-diagonal gradient shared by two entries
            qa, qb, qc = yy / det, -xy / det, xx / det
            ga, gb, gc = grad_conics[view, i, 0], 0.5 * grad_conics[view, i, 1], grad_conics[view, i, 2]
            ha, hb, hc, hd = qa * ga + qb * gb, qa * gb + qb * gc, qb * ga + qc * gb, qb * gb + qc * gc
            gxx, gxy, gyy = -(ha * qa + hb * qb), -(ha * qb + hb * qc), -(hc * qb + hd * qc)

            # Σ' = P diag(s²) Pᵀ + eps2d I with P = J A:  ∂L/∂P = 2 (∂L/∂Σ') P diag(s²)
            ex = (gxx * px[0] + gxy * py[0], gxx * px[1] + gxy * py[1], gxx * px[2] + gxy * py[2])
            ey = (gxy * px[0] + gyy * py[0], gxy * px[1] + gyy * py[1], gxy * px[2] + gyy * py[2])
            gs = (
                gs[0] + 2 * s[0] * (px[0] * ex[0] + py[0] * ey[0]),
                gs[1] + 2 * s[1] * (px[1] * ex[1] + py[1] * ey[1]),
                gs[2] + 2 * s[2] * (px[2] * ex[2] + py[2] * ey[2]),
            )
            wx = (2 * s[0] * s[0] * ex[0], 2 * s[1] * s[1] * ex[1], 2 * s[2] * s[2] * ex[2])
            wy = (2 * s[0] * s[0] * ey[0], 2 * s[1] * s[1] * ey[1], 2 * s[2] * s[2] * ey[2])

            # px = f_x/t_z (A_x - kx A_z), py likewise
            z = 1 / t[2]
            grad_kx, grad_ky = -fx * z * _dot(wx, a[2]), -fy * z * _dot(wy, a[2])
            gz = -z * (_dot(wx, px) + _dot(wy, py)) + grad_depths[view, i]
            gx, gy = fx * z * grad_means2d[view, i, 0], fy * z * grad_means2d[view, i, 1]
            gz -= gx * t[0] * z + gy * t[1] * z
            if limits[0] <= t[0] * z <= limits[1]:
                gx += grad_kx * z
                gz -= grad_kx * t[0] * z * z
            if limits[2] <= t[1] * z <= limits[3]:
                gy += grad_ky * z
                gz -= grad_ky * t[1] * z * z
            inverse = _transposed(rows)
            dm = _transform(inverse, (gx, gy, gz))
            gm = (gm[0] + dm[0], gm[1] + dm[1], gm[2] + dm[2])

            # A = R R_q, its gradient row by row, then back to R_q
            kz = (-fx * z * kx * wx[0] - fy * z * ky * wy[0], -fx * z * kx * wx[1] - fy * z * ky * wy[1],
                  -fx * z * kx * wx[2] - fy * z * ky * wy[2])  # fmt: skip
            grad_a = _transposed(((fx * z * wx[0], fx * z * wx[1], fx * z * wx[2]),
                                  (fy * z * wy[0], fy * z * wy[1], fy * z * wy[2]), kz))  # fmt: skip
            v = (
                _transform(inverse, grad_a[0]),
                _transform(inverse, grad_a[1]),
                _transform(inverse, grad_a[2]),
            )
            gq = _add_quaternion_gradient(gq, q, v)

        # q = quats / norm
        along = gq[0] * q[0] + gq[1] * q[1] + gq[2] * q[2] + gq[3] * q[3]
        for k in range(3):
            grad_means[i, k] = gm[k]
            grad_scales[i, k] = gs[k]
        for k in range(4):
            grad_quats[i, k] = (gq[k] - along * q[k]) / norm


@njit(nogil=True, cache=True, inline="always")
def _add_quaternion_gradient(gq, q, v):
    """gq plus the gradient of the unit quaternion, given v[j][i] = ∂L/∂R_q[i, j]."""
    w, x, y, z = q
    return (
        gq[0] + 2 * (x * (v[1][2] - v[2][1]) + y * (v[2][0] - v[0][2]) + z * (v[0][1] - v[1][0])),
        gq[1] + 2 * (-2 * x * (v[1][1] + v[2][2]) + y * (v[0][1] + v[1][0]) + z * (v[0][2] + v[2][0])
                     + w * (v[1][2] - v[2][1])),
        gq[2] + 2 * (x * (v[0][1] + v[1][0]) - 2 * y * (v[0][0] + v[2][2]) + z * (v[1][2] + v[2][1])
                     + w * (v[2][0] - v[0][2])),
        gq[3] + 2 * (x * (v[0][2] + v[2][0]) + y * (v[1][2] + v[2][1]) - 2 * z * (v[0][0] + v[1][1])
                     + w * (v[0][1] - v[1][0])),
    )  # fmt: skip
