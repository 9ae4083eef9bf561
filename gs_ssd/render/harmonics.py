"""View-dependent colour: c = max(Σ_k Y_k(d) sh_k + 1/2, 0), with d the unit vector from the camera to the mean.

Real spherical harmonics up to degree 3 in Sloan's form ("Efficient spherical harmonic evaluation", JCGT 2013),
in the order and with the signs of gsplat and Inria's rasteriser.
"""

from __future__ import annotations

from gs_ssd.render.simd import (
    LANES,
    fma,
    gather,
    inlined,
    load,
    load3,
    maximum,
    scatter,
    select,
    splat,
    sqrt,
    store,
    store_columns,
)

MAX_DEGREE = 3
BASIS = (MAX_DEGREE + 1) ** 2 * LANES  # room for the basis functions of 16 directions


@inlined
def _direction(means, position, lanes, together):
    """The unit vector from the camera and 1 / the distance."""
    x, y, z = gather3(means, lanes, 3, 0, together)
    x, y, z = x - position[0], y - position[1], z - position[2]
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
def _evaluate(bases, Y, base, rest, lanes, strides, together):
    r = g = b = splat(base, 0.5)
    for k in range(bases):
        y = load(Y, k * LANES)
        if k == 0:
            red, green, blue = gather3(base, lanes, strides[0], 0, together and strides[0] == 3)
        else:
            red, green, blue = gather3(rest, lanes, strides[1], 3 * k - 3, False)
        r, g, b = fma(y, red, r), fma(y, green, g), fma(y, blue, b)
    return r, g, b


@inlined
def camera_position(viewmat):
    """Where the camera of a world-to-camera matrix [4, 4] is."""
    return _back(viewmat, 0), _back(viewmat, 1), _back(viewmat, 2)


@inlined
def _back(viewmat, i):
    return -viewmat[0, i] * viewmat[0, 3] - viewmat[1, i] * viewmat[1, 3] - viewmat[2, i] * viewmat[2, 3]


@inlined
def shade(degree, means, base, rest, strides, position, lanes, together, Y):
    """Colours r, g, b of the Gaussians `lanes` (16 in a row, if `together`) seen from `position`.

    The coefficients are flat: k = 0 at base[strides[0] lane], the others at rest[strides[1] lane + 3 (k - 1)].
    """
    x = y = z = splat(means, 0.0)
    if degree >= 1:
        x, y, z, _ = _direction(means, position, lanes, together)
    _basis(degree, x, y, z, Y)
    r, g, b = _evaluate((degree + 1) ** 2, Y, base, rest, lanes, strides, together)
    zero = splat(means, 0.0)
    return select(r < 0.0, zero, r), select(g < 0.0, zero, g), select(b < 0.0, zero, b)


@inlined
def shade_adjoint(
    degree, means, base, rest, strides, position, lanes, into, together, grad, grad_base, grad_rest, Y, p, add
):  # fmt: skip
    """Write (or `add`) the gradients with respect to the coefficients of `lanes` to rows `into`.

    Returns the gradient with respect to the means.
    """
    bases = (degree + 1) ** 2
    zero = splat(means, 0.0)
    x = y = z = inverse = zero
    if degree >= 1:
        x, y, z, inverse = _direction(means, position, lanes, together)
    _basis(degree, x, y, z, Y)
    r, g, b = _evaluate(bases, Y, base, rest, lanes, strides, together)
    seen = (r + g + b) - (r + g + b) <= 0.0  # neither infinite nor NaN
    gr = select(seen & (r >= 0.0), grad[0], zero)
    gg = select(seen & (g >= 0.0), grad[1], zero)
    gb = select(seen & (b >= 0.0), grad[2], zero)
    for k in range(bases):
        basis = select(seen, load(Y, k * LANES), zero)
        grads = basis * gr, basis * gg, basis * gb
        if k == 0:
            scatter_sum3(grad_base, into, strides[0], 0, grads, together and strides[0] == 3, add)
        else:
            scatter_sum3(grad_rest, into, strides[1], 3 * k - 3, grads, False, add)
    gmx = gmy = gmz = zero
    if degree >= 1:
        for k in range(bases):
            if k == 0:
                red, green, blue = gather3(base, lanes, strides[0], 0, together and strides[0] == 3)
            else:
                red, green, blue = gather3(rest, lanes, strides[1], 3 * k - 3, False)
            store(p, k * LANES, fma(gb, blue, fma(gg, green, gr * red)))
        gx, gy, gz = _basis_gradient(degree, x, y, z, p)
        along = gx * x + gy * y + gz * z
        gmx = select(seen, (gx - along * x) * inverse, zero)
        gmy = select(seen, (gy - along * y) * inverse, zero)
        gmz = select(seen, (gz - along * z) * inverse, zero)
    return gmx, gmy, gmz


@inlined
def gather3(array, lanes, stride, column, together):
    """Three columns of the rows `lanes`; `together` says that they are 16 in a row, of these columns alone."""
    if together:
        return load3(array, 3 * lanes[0])
    return (
        gather(array, lanes, stride, column),
        gather(array, lanes, stride, column + 1),
        gather(array, lanes, stride, column + 2),
    )


@inlined
def scatter_sum(array, rows, stride, column, value, add):
    """`scatter`, or with `add` on top of what is there. Where `rows` repeats an index its values are the same."""
    if add:
        value = value + gather(array, rows, stride, column)
    scatter(array, rows, stride, column, value)


@inlined
def scatter_sum3(array, rows, stride, column, values, together, add):
    """`scatter_sum` of three columns, as `gather3` reads them."""
    if together and not add:
        store_columns(array, 3 * rows[0], values)
    else:
        scatter_sum(array, rows, stride, column, values[0], add)
        scatter_sum(array, rows, stride, column + 1, values[1], add)
        scatter_sum(array, rows, stride, column + 2, values[2], add)
