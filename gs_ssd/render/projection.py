"""EWA projection of 3D Gaussians to the image plane, and its adjoint, 16 Gaussians at a time.

With the camera-space mean t = R m + τ, the world covariance Σ = M Mᵀ (M = R_q diag(s)) and the Jacobian J of the
pinhole projection at t (its direction k = t/t_z clamped to 1.3 times the field of view, as in gsplat),

    μ = (f_x t_x / t_z + c_x, f_y t_y / t_z + c_y),     Σ' = P diag(s²) Pᵀ + eps2d I,     Q = Σ'⁻¹,

where P = J R R_q has the rows p_x = f_x/t_z (A_x - k_x A_z) and p_y = f_y/t_z (A_y - k_y A_z), A = R R_q.
The determinant is summed from the 2x2 minors of P diag(s) (Cauchy-Binet), all terms of one sign: for a needle,
Σ'_xx Σ'_yy - Σ'_xy² would cancel to nothing in float32.

References: Zwicker et al., "EWA splatting" (2002); gsplat 1.5.3, `_torch_impl._fully_fused_projection` and
`ProjectionEWA3DGSFused.cu` (opacity-aware radii: Radl et al. 2024, arXiv:2402.00525 §B.2).
"""

from __future__ import annotations

import numpy as np

from gs_ssd.render.compilation import entry_point, kernel
from gs_ssd.render.simd import (
    LANES,
    ceil,
    fill_lanes,
    fma,
    gather,
    inlined,
    log2,
    maximum,
    minimum,
    scatter,
    select,
    splat,
    sqrt,
)
from gs_ssd.render.threads import GRAIN, parallel

ALPHA_MIN = 1 / 255
MAX_EXTENT = 3.33  # standard deviations; exp(-3.33² / 2) is just below 1/255
_TWO_LN2 = 1.3862943611198906
_FINITE = 3e38
_MAX_RADIUS = 1e9


@inlined
def _dot(a, b):
    return fma(a[0], b[0], fma(a[1], b[1], a[2] * b[2]))


@inlined
def _transform(rows, v):
    return (_dot(rows[0], v), _dot(rows[1], v), _dot(rows[2], v))


@inlined
def _transposed(m):
    return (
        (m[0][0], m[1][0], m[2][0]),
        (m[0][1], m[1][1], m[2][1]),
        (m[0][2], m[1][2], m[2][2]),
    )


@inlined
def _scaled(factor, v):
    return (factor * v[0], factor * v[1], factor * v[2])


@inlined
def _sum(a, b):
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])


@inlined
def _product(a, b):
    return (a[0] * b[0], a[1] * b[1], a[2] * b[2])


@inlined
def _where(mask, a, b):
    return (select(mask, a[0], b[0]), select(mask, a[1], b[1]), select(mask, a[2], b[2]))


@inlined
def _rotation(w, x, y, z):
    """Rotation matrix of a unit quaternion, row by row."""
    return (
        (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)),
        (2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)),
        (2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)),
    )


@inlined
def _view(viewmat, K, width, height, like):
    """Rotation rows, translation, intrinsics and the limits of k, as broadcast vectors."""
    rows = (
        (splat(like, viewmat[0, 0]), splat(like, viewmat[0, 1]), splat(like, viewmat[0, 2])),
        (splat(like, viewmat[1, 0]), splat(like, viewmat[1, 1]), splat(like, viewmat[1, 2])),
        (splat(like, viewmat[2, 0]), splat(like, viewmat[2, 1]), splat(like, viewmat[2, 2])),
    )
    translation = (splat(like, viewmat[0, 3]), splat(like, viewmat[1, 3]), splat(like, viewmat[2, 3]))
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
    limits = (
        splat(like, -cx / fx - margin_x),
        splat(like, (width - cx) / fx + margin_x),
        splat(like, -cy / fy - margin_y),
        splat(like, (height - cy) / fy + margin_y),
    )
    return rows, translation, (splat(like, fx), splat(like, fy), splat(like, cx), splat(like, cy)), limits


@inlined
def _gaussians(means, quats, scales, lanes):
    """Means, unit quaternions, 1 / their norms, and standard deviations."""
    m = (gather(means, lanes, 3, 0), gather(means, lanes, 3, 1), gather(means, lanes, 3, 2))
    s = (gather(scales, lanes, 3, 0), gather(scales, lanes, 3, 1), gather(scales, lanes, 3, 2))
    w, x = gather(quats, lanes, 4, 0), gather(quats, lanes, 4, 1)
    y, z = gather(quats, lanes, 4, 2), gather(quats, lanes, 4, 3)
    inverse = 1.0 / maximum(sqrt(w * w + x * x + y * y + z * z), 1e-12)
    return m, (w * inverse, x * inverse, y * inverse, z * inverse), inverse, s


@inlined
def _ewa(view, m, q, s, eps2d):
    """t, 1/t_z, t/t_z, k, A_z, p_x, p_y, Σ' (xx, xy, yy) and its determinant."""
    rows, translation, intrinsics, limits = view
    t = _sum(_transform(rows, m), translation)
    columns = _transposed(_rotation(q[0], q[1], q[2], q[3]))
    a = _transposed(
        (_transform(rows, columns[0]), _transform(rows, columns[1]), _transform(rows, columns[2]))
    )
    iz = 1.0 / t[2]
    d = (t[0] * iz, t[1] * iz)
    k = (minimum(maximum(d[0], limits[0]), limits[1]), minimum(maximum(d[1], limits[2]), limits[3]))
    px = _scaled(intrinsics[0] * iz, _sum(a[0], _scaled(-k[0], a[2])))
    py = _scaled(intrinsics[1] * iz, _sum(a[1], _scaled(-k[1], a[2])))
    ux = (px[0] * s[0], px[1] * s[1], px[2] * s[2])
    uy = (py[0] * s[0], py[1] * s[1], py[2] * s[2])
    minors = (ux[1] * uy[2] - ux[2] * uy[1], ux[2] * uy[0] - ux[0] * uy[2], ux[0] * uy[1] - ux[1] * uy[0])
    xx, yy = _dot(ux, ux), _dot(uy, uy)
    det = _dot(minors, minors) + (xx + yy + eps2d) * eps2d
    return t, iz, d, k, a[2], px, py, (xx + eps2d, _dot(ux, uy), yy + eps2d), det


@entry_point
def project(
    team, width, height, near, far, eps2d, means, quats, scales, opacities, viewmats, Ks,
    radii, means2d, depths, conics,
):  # fmt: skip
    """Project N Gaussians into C views: radii and means2d [C, N, 2], depths [C, N], conics [C, N, 3]. Culled: zeros."""
    for c in range(len(viewmats)):
        parallel(team, _project, len(means), GRAIN, (means.reshape(-1), quats.reshape(-1), scales.reshape(-1),
                 opacities, viewmats[c].astype(np.float64), Ks[c].astype(np.float64), width, height, near, far, eps2d,
                 radii[c].reshape(-1), means2d[c].reshape(-1), depths[c], conics[c].reshape(-1)))  # fmt: skip


@entry_point
def project_adjoint(
    team, width, height, eps2d, means, quats, scales, viewmats, Ks, conics,
    grad_means2d, grad_depths, grad_conics, grad_means, grad_quats, grad_scales,
):  # fmt: skip
    """The gradients with respect to means, quats and scales, of their shapes."""
    parallel(team, _project_adjoint, len(means), GRAIN, (means.reshape(-1), quats.reshape(-1), scales.reshape(-1),
             viewmats.astype(np.float64), Ks.astype(np.float64), width, height, eps2d, conics.reshape(-1),
             grad_means2d.reshape(-1), grad_depths.reshape(-1), grad_conics.reshape(-1), grad_means.reshape(-1),
             grad_quats.reshape(-1), grad_scales.reshape(-1)))  # fmt: skip


@kernel
def _project(
    start, stop, means, quats, scales, opacities, viewmat, K, width, height, near, far, eps2d,
    radii, means2d, depths, conics,
):  # fmt: skip
    """Project Gaussians [start, stop) into one view (flat arrays). Culled ones get zeros.

    Every test is a comparison that a NaN fails, so that Gaussians that are not finite are culled.
    """
    view = _view(viewmat, K, width, height, means)
    zero = splat(means, 0.0)
    lanes = np.empty(LANES, np.int64)
    for i in range(start, stop, LANES):
        fill_lanes(lanes, i, stop)
        m, q, _, s = _gaussians(means, quats, scales, lanes)
        opacity = gather(opacities, lanes, 1, 0)
        t, _, d, _, _, _, _, (xx, xy, yy), det = _ewa(view, m, q, s, eps2d)
        x, y = fma(view[2][0], d[0], view[2][2]), fma(view[2][1], d[1], view[2][3])
        extent = minimum(sqrt(maximum(log2(maximum(opacity, ALPHA_MIN) * 255.0), 0.0) * _TWO_LN2), MAX_EXTENT)
        radius_x = minimum(ceil(extent * sqrt(xx)), _MAX_RADIUS)
        radius_y = minimum(ceil(extent * sqrt(yy)), _MAX_RADIUS)
        seen = (t[2] >= near) & (t[2] <= far) & (opacity >= ALPHA_MIN) & (opacity < _FINITE)
        seen = seen & (det > 0.0) & (det < _FINITE) & (xx < _FINITE) & (yy < _FINITE)
        seen = seen & (x + radius_x > 0.0) & (x - radius_x < width)
        seen = seen & (y + radius_y > 0.0) & (y - radius_y < height)
        inverse = 1.0 / det
        scatter(radii, lanes, 2, 0, select(seen, radius_x, zero))
        scatter(radii, lanes, 2, 1, select(seen, radius_y, zero))
        scatter(means2d, lanes, 2, 0, select(seen, x, zero))
        scatter(means2d, lanes, 2, 1, select(seen, y, zero))
        scatter(depths, lanes, 1, 0, select(seen, t[2], zero))
        scatter(conics, lanes, 3, 0, select(seen, yy * inverse, zero))
        scatter(conics, lanes, 3, 1, select(seen, -xy * inverse, zero))
        scatter(conics, lanes, 3, 2, select(seen, xx * inverse, zero))


@kernel
def _project_adjoint(
    start, stop, means, quats, scales, viewmats, Ks, width, height, eps2d, conics,
    grad_means2d, grad_depths, grad_conics, grad_means, grad_quats, grad_scales,
):  # fmt: skip
    """Gradients of Gaussians [start, stop), summed over the views in order (flat arrays; conics [C * N * 3])."""
    count = len(means) // 3
    zero = splat(means, 0.0)
    lanes, at = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    for i in range(start, stop, LANES):
        fill_lanes(lanes, i, stop)
        m, q, inverse_norm, s = _gaussians(means, quats, scales, lanes)
        ss = (2.0 * s[0] * s[0], 2.0 * s[1] * s[1], 2.0 * s[2] * s[2])
        gm = gs = nothing = (zero, zero, zero)
        gq = (zero, zero, zero, zero)
        seen_anywhere = zero > zero
        for c in range(len(viewmats)):
            for lane in range(LANES):
                at[lane] = c * count + lanes[lane]
            qa, qb, qc = gather(conics, at, 3, 0), gather(conics, at, 3, 1), gather(conics, at, 3, 2)
            seen = qa > 0.0
            seen_anywhere = seen_anywhere | seen
            view = _view(viewmats[c], Ks[c], width, height, means)
            rows, translation, (fx, fy, _, _), limits = view
            world = _transposed(rows)
            # culled lanes go through the same arithmetic with harmless numbers: the point one unit ahead
            ahead = _transform(world, (-translation[0], -translation[1], 1.0 - translation[2]))
            unit = (
                select(seen, q[0], zero),
                select(seen, q[1], zero),
                select(seen, q[2], zero),
                select(seen, q[3], zero),
            )
            _, iz, d, k, az, px, py, _, _ = _ewa(
                view, _where(seen, m, ahead), unit, _where(seen, s, nothing), eps2d
            )

            # Q = Σ'⁻¹:  ∂L/∂Σ' = -Q (∂L/∂Q) Q, the off-diagonal gradient being shared by two entries
            ga, gc = gather(grad_conics, at, 3, 0), gather(grad_conics, at, 3, 2)
            gb = 0.5 * gather(grad_conics, at, 3, 1)
            ha, hb, hc, hd = qa * ga + qb * gb, qa * gb + qb * gc, qb * ga + qc * gb, qb * gb + qc * gc
            gxx, gxy, gyy = -(ha * qa + hb * qb), -(ha * qb + hb * qc), -(hc * qb + hd * qc)

            # Σ' = P diag(s²) Pᵀ + eps2d I:  ∂L/∂P = 2 (∂L/∂Σ') P diag(s²)
            ex, ey = _sum(_scaled(gxx, px), _scaled(gxy, py)), _sum(_scaled(gxy, px), _scaled(gyy, py))
            gs = _sum(gs, _sum(_product(px, ex), _product(py, ey)))
            dx, dy = _where(seen, _product(ss, ex), nothing), _where(seen, _product(ss, ey), nothing)

            # P and μ as functions of t: 1/t_z scales both, k enters P, and is constant where it is clamped
            fxz, fyz = fx * iz, fy * iz
            gkx = select((d[0] >= limits[0]) & (d[0] <= limits[1]), -fxz * _dot(dx, az), zero)
            gky = select((d[1] >= limits[2]) & (d[1] <= limits[3]), -fyz * _dot(dy, az), zero)
            gtx = gkx * iz + fxz * select(seen, gather(grad_means2d, at, 2, 0), zero)
            gty = gky * iz + fyz * select(seen, gather(grad_means2d, at, 2, 1), zero)
            gtz = select(seen, gather(grad_depths, at, 1, 0), zero)
            gtz = gtz - (gtx * d[0] + gty * d[1]) - iz * (_dot(dx, px) + _dot(dy, py))
            gm = _sum(gm, _transform(world, (gtx, gty, gtz)))

            # A = R R_q: its gradient column by column, turned into that of R_q
            dx, dy = _scaled(fxz, dx), _scaled(fyz, dy)
            columns = _transposed((dx, dy, _sum(_scaled(-k[0], dx), _scaled(-k[1], dy))))
            v = (_transform(world, columns[0]), _transform(world, columns[1]), _transform(world, columns[2]))
            gq = _add_quaternion_gradient(gq, unit, v)

        along = gq[0] * q[0] + gq[1] * q[1] + gq[2] * q[2] + gq[3] * q[3]
        scatter(grad_means, lanes, 3, 0, gm[0])
        scatter(grad_means, lanes, 3, 1, gm[1])
        scatter(grad_means, lanes, 3, 2, gm[2])
        scatter(grad_scales, lanes, 3, 0, select(seen_anywhere, 2.0 * s[0] * gs[0], zero))
        scatter(grad_scales, lanes, 3, 1, select(seen_anywhere, 2.0 * s[1] * gs[1], zero))
        scatter(grad_scales, lanes, 3, 2, select(seen_anywhere, 2.0 * s[2] * gs[2], zero))
        scatter(grad_quats, lanes, 4, 0, select(seen_anywhere, (gq[0] - along * q[0]) * inverse_norm, zero))
        scatter(grad_quats, lanes, 4, 1, select(seen_anywhere, (gq[1] - along * q[1]) * inverse_norm, zero))
        scatter(grad_quats, lanes, 4, 2, select(seen_anywhere, (gq[2] - along * q[2]) * inverse_norm, zero))
        scatter(grad_quats, lanes, 4, 3, select(seen_anywhere, (gq[3] - along * q[3]) * inverse_norm, zero))


@inlined
def _add_quaternion_gradient(g, q, v):
    """g plus the gradient of the unit quaternion q, given v[j][i] = ∂L/∂R_q[i, j]."""
    w, x, y, z = q
    return (
        g[0] + 2.0 * (x * (v[1][2] - v[2][1]) + y * (v[2][0] - v[0][2]) + z * (v[0][1] - v[1][0])),
        g[1] + 2.0 * (y * (v[0][1] + v[1][0]) + z * (v[0][2] + v[2][0]) + w * (v[1][2] - v[2][1])
                      - 2.0 * x * (v[1][1] + v[2][2])),
        g[2] + 2.0 * (x * (v[0][1] + v[1][0]) + z * (v[1][2] + v[2][1]) + w * (v[2][0] - v[0][2])
                      - 2.0 * y * (v[0][0] + v[2][2])),
        g[3] + 2.0 * (x * (v[0][2] + v[2][0]) + y * (v[1][2] + v[2][1]) + w * (v[0][1] - v[1][0])
                      - 2.0 * z * (v[0][0] + v[1][1])),
    )  # fmt: skip
