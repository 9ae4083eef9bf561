"""From Gaussians to splats: EWA projection, colour and packing, and their adjoint, 16 Gaussians at a time.

With the camera-space mean t = R m + τ, the world covariance Σ = M Mᵀ (M = R_q diag(s)) and the Jacobian J of the
pinhole projection at t (its direction k = t/t_z clamped to 1.3 times the field of view, as in gsplat),

    μ = (f_x t_x / t_z + c_x, f_y t_y / t_z + c_y),     Σ' = P diag(s²) Pᵀ + eps2d I,     Q = Σ'⁻¹,

where P = J R R_q has the rows p_x = f_x/t_z (A_x - k_x A_z) and p_y = f_y/t_z (A_y - k_y A_z), A = R R_q.
The determinant is summed from the 2x2 minors of P diag(s) (Cauchy-Binet), all terms of one sign: for a needle,
Σ'_xx Σ'_yy - Σ'_xy² would cancel to nothing in float32.

The blur eps2d makes a splat wider, and so heavier. With `antialiased` its opacity is multiplied by
ρ = (det Σ'₀ / det Σ')^½, where Σ'₀ = Σ' - eps2d I:  ∂ρ²/∂Σ' = (1 - ρ²) Q - (eps2d / det Σ') I.

The Gaussians in view are packed as *records* (see `tiles`), one *row* each, in index order: those of the Gaussians
[512 c, 512 c + 512) are the first rows of [512 c, 512 c + 512), so that no thread waits for another's count. In the
adjoint a row holds ∂L/∂σ summed over pixels with weights 1, dx, dy, dx², dx dy, dy² (σ = ½ dᵀQd), then ∂L/∂colour.

References: Zwicker et al., "EWA splatting" (2002); gsplat 1.5.3, `_torch_impl._fully_fused_projection` and
`ProjectionEWA3DGSFused.cu` (opacity-aware radii: Radl et al. 2024, arXiv:2402.00525 §B.2); the compensation:
Yu et al., "Mip-Splatting" (2024).
"""

from __future__ import annotations

from gs_ssd.render.compilation import entry_point, task
from gs_ssd.render.harmonics import (
    BASIS,
    camera_position,
    gather3,
    scatter_sum,
    scatter_sum3,
    shade,
    shade_adjoint,
)
from gs_ssd.render.simd import (
    LANES,
    append_rows,
    array_at,
    ceil,
    fill_lanes,
    fma,
    gather,
    inlined,
    item,
    lane_bits,
    load,
    load2,
    load4,
    load_rows,
    log2,
    maximum,
    minimum,
    put,
    room,
    scatter,
    select,
    splat,
    sqrt,
    store,
    store_columns,
)
from gs_ssd.render.threads import GRAIN, parallel
from gs_ssd.render.tiles import BOX_X, CHANNELS, COLOR, RECORD, pack_box

ALPHA_MIN = 1 / 255
MAX_EXTENT = 3.33  # standard deviations; exp(-3.33² / 2) is just below 1/255
_TWO_LN2 = 1.3862943611198906
_FINITE = 3e38
_MAX_RADIUS = 1e9
_ALL = (1 << LANES) - 1


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
def _unit(q):
    """Unit quaternions, and 1 / the norms of q."""
    w, x, y, z = q
    inverse = 1.0 / maximum(sqrt(w * w + x * x + y * y + z * z), 1e-12)
    return (w * inverse, x * inverse, y * inverse, z * inverse), inverse


@inlined
def _gather3(array, lanes, together):
    return gather3(array, lanes, 3, 0, together)


@inlined
def _gather4(array, lanes, together):
    if together:
        return load4(array, 4 * lanes[0])
    return (
        gather(array, lanes, 4, 0),
        gather(array, lanes, 4, 1),
        gather(array, lanes, 4, 2),
        gather(array, lanes, 4, 3),
    )


@inlined
def _ewa(view, m, q, s, eps2d):
    """t, 1/t_z, t/t_z, k, A_z, p_x, p_y, Σ' (xx, xy, yy), det Σ'₀ and det Σ'."""
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
    sharp = _dot(minors, minors)
    det = sharp + (xx + yy + eps2d) * eps2d
    return t, iz, d, k, a[2], px, py, (xx + eps2d, _dot(ux, uy), yy + eps2d), sharp, det


@entry_point
def project(team, like, camera, limits, options, strides, gaussians, outputs, ids, visible, candidates):
    """Project N Gaussians into a view, and pack those in view. Returns how many (Gaussian, tile) pairs there may be.

    Args:
        like: an array of the type of all floats.
        camera: [7, 4] float64: the world-to-camera matrix, then the intrinsics in the first three columns.
        limits: width, height, near, far, eps2d. options: antialiased, degree, depth_channel.
        gaussians: where means, quats, scales, opacities, base and rest begin. For base, rest and their strides see
            `harmonics.shade`; with degree -1 the first strides[0] channels are base itself.
        outputs: where radii (int32), means2d, depths, conics, compensations and records begin: zeros if culled, but
            the records are the packed splats, with room for N + 1. Compensations are filled if antialiased.
        ids: whose Gaussians the records are [N + 1].
        visible, candidates: how many rows a chunk of 512 Gaussians has, and how many tiles they may touch; the latter
            becomes where the slots of the chunk begin.
    """
    N = len(ids) - 1
    means, quats, scales, opacities, base, rest = _gaussians(like, N, strides, gaussians)
    radii = array_at(ids, outputs[0], 2 * N)
    means2d, depths = array_at(like, outputs[1], 2 * N), array_at(like, outputs[2], N)
    conics, compensations = array_at(like, outputs[3], 3 * N), array_at(like, outputs[4], N)
    records = array_at(like, outputs[5], RECORD * (N + 1))
    parallel(team, _project, N, GRAIN, (camera, limits, options, means, quats, scales, opacities, base, rest, strides,
             radii, means2d, depths, conics, compensations, records, ids, visible, candidates))  # fmt: skip
    total = 0
    for chunk in range(len(candidates)):
        total, candidates[chunk] = total + candidates[chunk], total
    return total


@task
def _project(
    start, stop, camera, limits, options, means, quats, scales, opacities, base, rest, strides,
    radii, means2d, depths, conics, compensations, records, ids, visible, candidates,
):  # fmt: skip
    """The Gaussians [start, stop), one chunk.

    Every test is a comparison that a NaN fails, so that Gaussians that are not finite are culled.
    """
    width, height, near, far, eps2d = limits
    antialiased = options[0]
    view = _view(camera[:4], camera[4:], width, height, means)
    zero, one = splat(means, 0.0), splat(means, 1.0)
    position = camera_position(camera)
    Y, lanes = room(means, BASIS), room(visible, LANES)
    later, waiting = room(visible, GRAIN), 0
    row = start
    touched = 0
    for i in range(start, stop, LANES):
        whole = i + LANES <= stop
        fill_lanes(lanes, i, stop)
        m, q, s = _gather3(means, lanes, whole), _gather4(quats, lanes, whole), _gather3(scales, lanes, whole)
        opacity = load(opacities, i) if whole else gather(opacities, lanes, 1, 0)
        unit, _ = _unit(q)
        t, _, d, _, _, _, _, (xx, xy, yy), sharp, det = _ewa(view, m, unit, s, eps2d)
        x, y = fma(view[2][0], d[0], view[2][2]), fma(view[2][1], d[1], view[2][3])
        if antialiased:
            compensation = sqrt(sharp / det)
            opacity = opacity * compensation
        else:
            compensation = one
        extent = minimum(sqrt(maximum(log2(maximum(opacity, ALPHA_MIN) * 255.0), 0.0) * _TWO_LN2), MAX_EXTENT)
        radius_x = minimum(ceil(extent * sqrt(xx)), _MAX_RADIUS)
        radius_y = minimum(ceil(extent * sqrt(yy)), _MAX_RADIUS)
        seen = (t[2] >= near) & (t[2] <= far) & (opacity >= ALPHA_MIN) & (opacity < _FINITE)
        seen = seen & (det > 0.0) & (det < _FINITE) & (xx < _FINITE) & (yy < _FINITE)
        seen = seen & (x + radius_x > 0.0) & (x - radius_x < width)
        seen = seen & (y + radius_y > 0.0) & (y - radius_y < height)
        inverse = 1.0 / det
        conic = (
            select(seen, yy * inverse, zero),
            select(seen, -xy * inverse, zero),
            select(seen, xx * inverse, zero),
        )
        center = (select(seen, x, zero), select(seen, y, zero))
        depth = select(seen, t[2], zero)
        radius = (select(seen, radius_x, zero), select(seen, radius_y, zero))
        bits = lane_bits(seen)
        if whole:
            store_columns(radii, 2 * i, radius)
            store_columns(means2d, 2 * i, center)
            store_columns(conics, 3 * i, conic)
            store(depths, i, depth)
        else:
            bits &= (1 << (stop - i)) - 1
            scatter(radii, lanes, 2, 0, radius[0])
            scatter(radii, lanes, 2, 1, radius[1])
            scatter(means2d, lanes, 2, 0, center[0])
            scatter(means2d, lanes, 2, 1, center[1])
            scatter(conics, lanes, 3, 0, conic[0])
            scatter(conics, lanes, 3, 1, conic[1])
            scatter(conics, lanes, 3, 2, conic[2])
            scatter(depths, lanes, 1, 0, depth)
        if antialiased:
            scatter(compensations, lanes, 1, 0, select(seen, compensation, zero))
        if bits:
            colors, finite = (zero, zero, zero, zero), zero <= 0.0
            if bits == _ALL:
                colors, finite = _colors(options, means, base, rest, strides, position, lanes, True, depth, Y)
            record, tiles = pack_box(center, conic, opacity, colors, finite, width, height, bits)
            last = append_rows(records, ids, row, i, bits, record)
            if bits != _ALL:
                for k in range(row, last):
                    later[waiting + k - row] = k
                waiting += last - row
            row = last
            touched += tiles
    visible[start // GRAIN] = row - start
    candidates[start // GRAIN] = touched
    rows = room(visible, LANES)
    _paint(
        later[:waiting], options, means, base, rest, strides, position, depths, records, ids, Y, rows, lanes
    )


@inlined
def _colors(options, means, base, rest, strides, position, lanes, together, depth, Y):
    """The four channels of the Gaussians `lanes` (16 in a row, if `together`), and where the colours are finite."""
    degree, depth_channel = options[1], options[2]
    c0 = c1 = c2 = c3 = splat(means, 0.0)
    if degree >= 0:
        c0, c1, c2 = shade(degree, means, base, rest, strides, position, lanes, together, Y)
    else:
        if strides[0] > 0:
            c0 = gather(base, lanes, strides[0], 0)
        if strides[0] > 1:
            c1 = gather(base, lanes, strides[0], 1)
        if strides[0] > 2:
            c2 = gather(base, lanes, strides[0], 2)
        if strides[0] > 3:
            c3 = gather(base, lanes, strides[0], 3)
    total = c0 + c1 + c2 + c3
    if depth_channel == 0:
        c0 = depth
    elif depth_channel == 1:
        c1 = depth
    elif depth_channel == 2:
        c2 = depth
    elif depth_channel == 3:
        c3 = depth
    return (c0, c1, c2, c3), total - total <= 0.0


@inlined
def _paint(later, options, means, base, rest, strides, position, depths, records, ids, Y, rows, lanes):
    """Write the colours of the rows `later`, whose Gaussians do not lie 16 in a row."""
    for i in range(0, len(later), LANES):
        for lane in range(LANES):
            rows[lane] = later[min(i + lane, len(later) - 1)]
            lanes[lane] = ids[rows[lane]]
        depth = gather(depths, lanes, 1, 0)
        colors, finite = _colors(options, means, base, rest, strides, position, lanes, False, depth, Y)
        scatter(records, rows, RECORD, COLOR, colors[0])
        scatter(records, rows, RECORD, COLOR + 1, colors[1])
        scatter(records, rows, RECORD, COLOR + 2, colors[2])
        scatter(records, rows, RECORD, COLOR + 3, colors[3])
        if lane_bits(finite) != _ALL:  # it touches no tile
            scatter(records, rows, RECORD, BOX_X, select(finite, gather(records, rows, RECORD, BOX_X), 0.0))


@entry_point
def project_adjoint(
    team, like, camera, limits, options, strides, gaussians, ids, visible, targets, given, wanted, add, stored
):  # fmt: skip
    """Write the gradients of the Gaussians in view (zeros for the others), or `add` them to what is there.

    Args:
        given: where conics, grad_rows, grad_means2d, grad_depths and grad_conics begin; the last two may be 0.
        wanted: where the gradients of the six `gaussians` begin.
        targets: [N] int32, in which row of these that of a Gaussian stands, -1: in none; if not empty, they must be
            there to `add` to.
        stored: whether the gradients of scales and opacities are those of their logarithms and logits.
    """
    N = len(ids) - 1
    means, quats, scales, opacities, base, rest = _gaussians(like, N, strides, gaussians)
    grads = _gaussians(like, N, strides, wanted)
    conics, grad_rows = array_at(like, given[0], 3 * N), array_at(like, given[1], RECORD * (N + 1))
    grad_means2d = array_at(like, given[2], 2 * N)
    grad_depths = array_at(like, given[3], N if given[3] else 0)
    grad_conics = array_at(like, given[4], 3 * N if given[4] else 0)
    parallel(team, _project_adjoint, N, GRAIN, (camera, limits, options, means, quats, scales, opacities, base, rest,
             strides, conics, ids, visible, targets, grad_rows, grad_means2d, grad_depths, grad_conics, grads,
             add, stored))  # fmt: skip


@inlined
def _gaussians(like, N, strides, addresses):
    """The flat arrays of N Gaussians."""
    return (
        array_at(like, addresses[0], 3 * N),
        array_at(like, addresses[1], 4 * N),
        array_at(like, addresses[2], 3 * N),
        array_at(like, addresses[3], N),
        array_at(like, addresses[4], strides[0] * N),
        array_at(like, addresses[5], strides[1] * N),
    )


@inlined
def _scatter_sum4(array, rows, values, together, add):
    if together and not add:
        store_columns(array, 4 * rows[0], values)
    else:
        scatter_sum(array, rows, 4, 0, values[0], add)
        scatter_sum(array, rows, 4, 1, values[1], add)
        scatter_sum(array, rows, 4, 2, values[2], add)
        scatter_sum(array, rows, 4, 3, values[3], add)


@inlined
def _clear(array, stride, start, stop):
    array[stride * start : stride * stop] = 0


@inlined
def _rows_with_gradient(start, stop, ids, targets, grad_rows, grad_means2d, everything, chosen):
    """Collect the rows of [start, stop) whose gradient is wanted, and not zero; return their number."""
    count = 0
    for row in range(start, stop):
        g = ids[row]
        if len(targets) and targets[g] < 0:
            continue
        moments = load(grad_rows, RECORD * row)
        some = lane_bits(~((moments <= 0.0) & (moments >= 0.0))) != 0
        if some or everything or grad_means2d[2 * g] != 0 or grad_means2d[2 * g + 1] != 0:
            put(chosen, count, row)
            count += 1
            if not len(targets) and 2 * count > stop - start:
                break
    # Where it is most of them: 16 in a row cost less than 16 here and there.
    if not len(targets) and 2 * count > stop - start:
        count = stop - start
        for k in range(count):
            put(chosen, k, start + k)
    return count


@inlined
def _where_some(none, v):
    zero = splat(v[0], 0.0)
    return select(none, zero, v[0]), select(none, zero, v[1]), select(none, zero, v[2])


@inlined
def _size(value):
    return maximum(value, -value)


@inlined
def _no_gradient(total, screen):
    """Where ten sums and two gradients are zero."""
    t = total
    moments = _size(t[0]) + _size(t[1]) + _size(t[2]) + _size(t[3]) + _size(t[4]) + _size(t[5])
    colors = _size(t[COLOR]) + _size(t[COLOR + 1]) + _size(t[COLOR + 2]) + _size(t[COLOR + 3])
    return moments + colors + _size(screen[0]) + _size(screen[1]) <= 0.0


@task
def _project_adjoint(
    start, stop, camera, limits, options, means, quats, scales, opacities, base, rest, strides, conics, ids, visible,
    targets, grad_rows, grad_means2d, grad_depths, grad_conics, grads, add, stored,
):  # fmt: skip
    grad_means, grad_quats, grad_scales, grad_opacities, grad_base, grad_rest = grads
    width, height, _, _, eps2d = limits
    antialiased, degree, depth_channel = options
    chosen = room(visible, GRAIN)
    everything = len(grad_depths) > 0 or len(grad_conics) > 0
    count = _rows_with_gradient(start, start + visible[start // GRAIN], ids, targets, grad_rows, grad_means2d,
                                everything, chosen)  # fmt: skip
    if not add and count < stop - start:
        _clear(grad_means, 3, start, stop)
        _clear(grad_quats, 4, start, stop)
        _clear(grad_scales, 3, start, stop)
        _clear(grad_opacities, 1, start, stop)
        _clear(grad_base, strides[0], start, stop)
    if not add:
        _clear(grad_rest, strides[1], start, stop)  # beyond the degree, too
    view = _view(camera[:4], camera[4:], width, height, means)
    rows_of_R, _, (fx, fy, _, _), bounds = view
    world = _transposed(rows_of_R)
    position = camera_position(camera)
    zero = splat(means, 0.0)
    Y, p = room(means, BASIS), room(means, BASIS)
    rows, lanes, into = room(visible, LANES), room(visible, LANES), room(visible, LANES)
    for i in range(0, count, LANES):
        for lane in range(LANES):
            row = item(chosen, min(i + lane, count - 1))
            g = item(ids, row)
            put(rows, lane, row)
            put(lanes, lane, g)
            put(into, lane, item(targets, g) if len(targets) else g)
        together = not len(targets) and i + LANES <= count and lanes[LANES - 1] - lanes[0] == LANES - 1
        total = load_rows(grad_rows, rows)
        if together:
            opacity, screen = load(opacities, lanes[0]), load2(grad_means2d, 2 * lanes[0])
        else:
            opacity = gather(opacities, lanes, 1, 0)
            screen = gather(grad_means2d, lanes, 2, 0), gather(grad_means2d, lanes, 2, 1)
        none = ~(zero <= 0.0) if everything else _no_gradient(total, screen)
        m, s = _gather3(means, lanes, together), _gather3(scales, lanes, together)
        unit, inverse_norm = _unit(_gather4(quats, lanes, together))
        qa, qb, qc = _gather3(conics, lanes, together)
        _, iz, d, k, az, px, py, _, sharp, det = _ewa(view, m, unit, s, eps2d)
        go = select(none, zero, -(total[0] * (1.0 - opacity) if stored else total[0] / opacity))
        if together and not add:
            store(grad_opacities, lanes[0], go)
        else:
            scatter_sum(grad_opacities, into, 1, 0, go, add)

        # Q = Σ'⁻¹:  ∂L/∂Σ' = -Q (∂L/∂Q) Q, the off-diagonal gradient being shared by two entries
        ga, gb, gc = total[3] * 0.5, total[4], total[5] * 0.5
        if len(grad_conics):
            ga, gb = ga + gather(grad_conics, lanes, 3, 0), gb + gather(grad_conics, lanes, 3, 1)
            gc = gc + gather(grad_conics, lanes, 3, 2)
        gb = 0.5 * gb
        ha, hb, hc, hd = qa * ga + qb * gb, qa * gb + qb * gc, qb * ga + qc * gb, qb * gb + qc * gc
        gxx, gxy, gyy = -(ha * qa + hb * qb), -(ha * qb + hb * qc), -(hc * qb + hd * qc)
        if antialiased:
            square = sharp / det
            grad_square = total[0] * -0.5 / square
            rest_ = 1.0 - square
            blur = eps2d / det
            gxx = fma(grad_square, rest_ * qa - blur, gxx)
            gxy = fma(grad_square, rest_ * qb, gxy)
            gyy = fma(grad_square, rest_ * qc - blur, gyy)

        # Σ' = P diag(s²) Pᵀ + eps2d I:  ∂L/∂P = 2 (∂L/∂Σ') P diag(s²)
        ss = (2.0 * s[0] * s[0], 2.0 * s[1] * s[1], 2.0 * s[2] * s[2])
        ex, ey = _sum(_scaled(gxx, px), _scaled(gxy, py)), _sum(_scaled(gxy, px), _scaled(gyy, py))
        gs = _sum(_product(px, ex), _product(py, ey))
        dx, dy = _product(ss, ex), _product(ss, ey)

        # P and μ as functions of t: 1/t_z scales both, k enters P, and is constant where it is clamped
        fxz, fyz = fx * iz, fy * iz
        gkx = select((d[0] >= bounds[0]) & (d[0] <= bounds[1]), -fxz * _dot(dx, az), zero)
        gky = select((d[1] >= bounds[2]) & (d[1] <= bounds[3]), -fyz * _dot(dy, az), zero)
        gtx = gkx * iz + fxz * screen[0]
        gty = gky * iz + fyz * screen[1]
        gtz = zero
        if depth_channel >= 0:
            gtz = gather(grad_rows, rows, RECORD, COLOR + depth_channel)
        if len(grad_depths):
            gtz = gtz + gather(grad_depths, lanes, 1, 0)
        gtz = gtz - (gtx * d[0] + gty * d[1]) - iz * (_dot(dx, px) + _dot(dy, py))
        gm = _transform(world, (gtx, gty, gtz))

        # A = R R_q: its gradient column by column, turned into that of R_q
        dx, dy = _scaled(fxz, dx), _scaled(fyz, dy)
        columns = _transposed((dx, dy, _sum(_scaled(-k[0], dx), _scaled(-k[1], dy))))
        v = (_transform(world, columns[0]), _transform(world, columns[1]), _transform(world, columns[2]))
        gq = _quaternion_gradient(unit, v)
        along = gq[0] * unit[0] + gq[1] * unit[1] + gq[2] * unit[2] + gq[3] * unit[3]
        gq = (
            select(none, zero, (gq[0] - along * unit[0]) * inverse_norm),
            select(none, zero, (gq[1] - along * unit[1]) * inverse_norm),
            select(none, zero, (gq[2] - along * unit[2]) * inverse_norm),
            select(none, zero, (gq[3] - along * unit[3]) * inverse_norm),
        )
        _scatter_sum4(grad_quats, into, gq, together, add)
        gs = _where_some(none, _product(ss if stored else _scaled(2.0, s), gs))
        scatter_sum3(grad_scales, into, 3, 0, gs, together, add)

        if degree >= 0:
            color = (total[COLOR], total[COLOR + 1], total[COLOR + 2])
            gm = _sum(gm, shade_adjoint(degree, means, base, rest, strides, position, lanes, into,
                                        together, color, grad_base, grad_rest, Y, p, add))  # fmt: skip
        else:
            for channel in range(min(strides[0], CHANNELS)):
                value = gather(grad_rows, rows, RECORD, COLOR + channel)
                scatter_sum(grad_base, into, strides[0], channel, value, add)
        scatter_sum3(grad_means, into, 3, 0, _where_some(none, gm), together, add)


@inlined
def _quaternion_gradient(q, v):
    """The gradient of the unit quaternion q, given v[j][i] = ∂L/∂R_q[i, j]."""
    w, x, y, z = q
    return (
        2.0 * (x * (v[1][2] - v[2][1]) + y * (v[2][0] - v[0][2]) + z * (v[0][1] - v[1][0])),
        2.0 * (y * (v[0][1] + v[1][0]) + z * (v[0][2] + v[2][0]) + w * (v[1][2] - v[2][1])
               - 2.0 * x * (v[1][1] + v[2][2])),
        2.0 * (x * (v[0][1] + v[1][0]) + z * (v[1][2] + v[2][1]) + w * (v[2][0] - v[0][2])
               - 2.0 * y * (v[0][0] + v[2][2])),
        2.0 * (x * (v[0][2] + v[2][0]) + y * (v[1][2] + v[2][1]) + w * (v[0][1] - v[1][0])
               - 2.0 * z * (v[0][0] + v[1][1])),
    )  # fmt: skip
