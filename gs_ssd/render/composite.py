"""Front-to-back compositing of tile lists, and its exact adjoint.

With the Gaussians of a pixel numbered from near to far, α_i as in `tiles` and T_i = Π_{j<i} (1 - α_j),

    C = Σ_i c_i α_i T_i + T_end c_background,     A = 1 - T_end.

As in gsplat, α is clamped to 0.999, contributions below 1/255 are skipped, and a pixel stops before the Gaussian
that would bring T to 1e-4 or less. The adjoint runs back to front. With q_i = c_i · ∂L/∂C and the suffix
B_i = Σ_{j>i} α_j T_j q_j + T_end (c_background · ∂L/∂C - ∂L/∂A),

    ∂L/∂α_i = T_i q_i - B_i / (1 - α_i),      ∂L/∂σ_i = -α_i ∂L/∂α_i,      σ = ½ dᵀQd.

Every (Gaussian, tile) pair has sums of its own. A team writes them down and adds them per Gaussian afterwards, in the
order of the tiles; a single thread, which goes through the tiles in that order, adds them where they arise. So there
are no atomics, and the number of threads changes no bit.
Inside a tile, per-pixel state is stored block by block: 16 blocks of 16 lanes. The pictures are made so, too: a block's
state stays in registers. The adjoint goes entry by entry, so that an entry's sums do.
"""

from __future__ import annotations

import math

import numpy as np

from gs_ssd.render.compilation import entry_point, task
from gs_ssd.render.simd import (
    LANES,
    aligned,
    array_at,
    exp2,
    fma,
    inlined,
    item,
    lane_bits,
    lane_columns,
    lane_rows,
    lane_sums,
    load,
    load3,
    load_quads,
    lowest_bit,
    minimum,
    prefetch,
    put,
    room,
    select,
    splat,
    store,
    store_bits,
    store_columns,
    store_quads,
)
from gs_ssd.render.threads import GRAIN, parallel
from gs_ssd.render.tiles import (
    BLOCK,
    BLOCKS,
    CHANNELS,
    COLOR,
    ENTRY,
    L11,
    L12,
    L22,
    LOG2_OPACITY,
    RECORD,
    ROW,
    SLOT_ENTRY,
    SLOT_FIELDS,
    SLOT_TILE,
    TILE,
    X,
    Y,
    build,
)

LOG2_ALPHA_MIN = -math.log2(255)
ALPHA_MAX = 0.999
TRANSMITTANCE_MIN = 1e-4
_PIXELS = TILE * TILE
WORD = 64  # bits
_AHEAD = 12  # how many Gaussians ahead to prefetch
_NEVER = 3e38


@entry_point
def forward(
    team, like, shape, given, ids, visible, candidates, targets, slots, spans, firsts, entries, transmittance, stops,
    ends, images,
):  # fmt: skip
    """Composite one view of D colours.

    Args:
        like: an array of the type of all floats.
        shape: height, width, D. given: where records, depths and background begin.
        slots ... ends: the state that `backward` needs: the lists of `tiles.build`, but of an entry's blocks only
            those that show it, and by tile the transmittance left at its pixels, the place in its list of the Gaussian
            that stopped a pixel, and [first, last) of the entries that a backward pass has to visit.
        images: where the pictures [H, W, D] and [H, W, 1] begin.
    """
    N, tiles_x = len(ids) - 1, -(-shape[1] // TILE)
    records, depths = array_at(like, given[0], RECORD * (N + 1)), array_at(like, given[1], N)
    background = array_at(like, given[2], shape[2])
    color, alpha = _images(like, shape, images)
    build(team, tiles_x, records, ids, visible, candidates, depths, targets, slots, spans, firsts, entries)
    parallel(team, _forward_tiles, len(firsts) - 1, max(tiles_x // 4, 1), (tiles_x, records, firsts, entries,
             background, transmittance, stops, ends, color, alpha))  # fmt: skip


@inlined
def _images(like, shape, addresses):
    height, width, channels = shape
    color = array_at(like, addresses[0], height * width * channels)
    return color.reshape(shape), array_at(like, addresses[1], height * width if addresses[1] else 0)


@entry_point
def backward(
    team, like, shape, given, ids, visible, targets, slots, spans, firsts, entries, transmittance, stops, ends,
    images, wanted,
):  # fmt: skip
    """Write the gradients of the rows (as `projection` describes them) and those with respect to means2d.

    `given` tells where records, conics and background begin, `images` the same of the pictures' gradients (0: alphas
    have none), `wanted` of the two to be written.
    """
    N, tiles_x = len(ids) - 1, -(-shape[1] // TILE)
    records, conics = array_at(like, given[0], RECORD * (N + 1)), array_at(like, given[1], 3 * N)
    background = array_at(like, given[2], shape[2])
    grad_color, grad_alpha = _images(like, shape, images)
    grad_rows, grad_means2d = array_at(like, wanted[0], RECORD * (N + 1)), array_at(like, wanted[1], 2 * N)
    sums = aligned(firsts[-1] * LANES if team else 0, records)
    if not team:
        _clear_rows(ids, visible, targets, grad_rows)
    parallel(team, _backward_tiles, len(firsts) - 1, max(tiles_x // 4, 1), (tiles_x, records, firsts, entries,
             background, transmittance, stops, ends, grad_color, grad_alpha, sums, grad_rows, not team))  # fmt: skip
    parallel(team, _gather, N, GRAIN, (ids, visible, conics, targets, slots, spans, ends, sums,
             grad_rows, grad_means2d, not team))  # fmt: skip


@entry_point
def mark(team, ids, firsts, entries, stops, ends, shown):
    """Set shown[g] for each Gaussian g that colours a pixel of a view, or stops one; the rest is what `forward` left.

    The picture without the others has the same bits, and so it has with further Gaussians in both: T falls with every
    one in front (its rounding keeps the order), so a pixel stops no later than it did here.
    """
    for tile in range(len(firsts) - 1):
        for entry in range(firsts[tile], ends[2 * tile + 1]):
            if entries[entry * ENTRY + BLOCKS]:
                shown[ids[_row(entries, entry)]] = True
        for at in range(tile * _PIXELS, (tile + 1) * _PIXELS):
            if 0 <= stops[at] < _NEVER:
                entry = firsts[tile] + np.int64(stops[at])
                shown[ids[_row(entries, entry)]] = True


@inlined
def _clear_rows(ids, visible, targets, grad_rows):
    """Zeros in the rows whose gradient is wanted."""
    for chunk in range(len(visible)):
        for row in range(chunk * GRAIN, chunk * GRAIN + visible[chunk]):
            if not len(targets) or targets[ids[row]] >= 0:
                store(grad_rows, row * RECORD, 0.0)


@inlined
def _row(entries, entry):
    """The row of an entry, whether it wants a gradient or not."""
    row = np.int64(item(entries, ENTRY * entry + ROW))
    return row ^ (row >> 63)


@inlined
def _log2_alpha(records, record, dx, dy):
    """log2 α before the clamp, at pixels (dx, dy) from the centre: one formula, to the last bit, for both passes."""
    u = fma(dx, item(records, record + L11), dy * item(records, record + L12))
    v = dy * item(records, record + L22)
    return fma(-u, u, fma(-v, v, item(records, record + LOG2_OPACITY)))


@inlined
def _copy(source, first, target, at):
    """A tile's pixels."""
    for block in range(LANES):
        store(target, at + block * LANES, load(source, first + block * LANES))


@inlined
def _line(y):
    """Where the pixels of a tile's row y begin in memory: four at a time, 16 apart."""
    return y // BLOCK * BLOCK * LANES + y % BLOCK * BLOCK


@inlined
def _show(x0, y0, T, planes, background, color, alpha):
    """Write the pixels of a tile. One that is whole is written row by row."""
    height, width, channels = color.shape
    rows, columns = min(TILE, height - y0), min(TILE, width - x0)
    if channels == 3 and rows == TILE and columns == TILE:
        flat_color = color.reshape(-1)
        for y in range(TILE):
            at, pixel = _line(y), (y0 + y) * width + x0
            left = load_quads(T, at)
            red = load_quads(planes[0], at) + left * background[0]
            green = load_quads(planes[1], at) + left * background[1]
            blue = load_quads(planes[2], at) + left * background[2]
            store_columns(flat_color, 3 * pixel, (red, green, blue))
            store(alpha, pixel, 1.0 - left)
        return
    for y in range(rows):
        for x in range(columns):
            at = _line(y) + x // BLOCK * LANES + x % BLOCK
            for k in range(channels):
                color[y0 + y, x0 + x, k] = planes[k][at] + T[at] * background[k]
            alpha[(y0 + y) * width + x0 + x] = 1 - T[at]


@inlined
def _take(x0, y0, T, v, background, grad_color, grad_alpha, suffix):
    """Read ∂L/∂C of a tile's pixels into the four v, and what lies behind all Gaussians into `suffix`: `_show` back."""
    height, width, channels = grad_color.shape
    rows, columns = min(TILE, height - y0), min(TILE, width - x0)
    if channels == 3 and rows == TILE and columns == TILE:
        flat_color = grad_color.reshape(-1)
        for y in range(TILE):
            at, pixel = _line(y), (y0 + y) * width + x0
            red, green, blue = load3(flat_color, 3 * pixel)
            behind = red * background[0] + green * background[1] + blue * background[2]
            if len(grad_alpha):
                behind = behind - load(grad_alpha, pixel)
            store_quads(v[0], at, red)
            store_quads(v[1], at, green)
            store_quads(v[2], at, blue)
            store_quads(suffix, at, load_quads(T, at) * behind)
        return
    for k in range(CHANNELS):
        v[k][:] = 0
    suffix[:] = 0
    zero = background.dtype.type(0)
    for y in range(rows):
        for x in range(columns):
            at = _line(y) + x // BLOCK * LANES + x % BLOCK
            behind = -grad_alpha[(y0 + y) * width + x0 + x] if len(grad_alpha) else zero
            for k in range(channels):
                v[k][at] = grad_color[y0 + y, x0 + x, k]
                behind += background[k] * v[k][at]
            suffix[at] = T[at] * behind


@inlined
def _list_blocks(records, entries, entry, stop, bits):
    """Write which of (at most 64) entries a block has, bit by bit, and forget which blocks these entries have."""
    store_bits(bits, entries, ENTRY * entry)
    for k in range(entry, stop):
        put(entries, ENTRY * k + BLOCKS, 0)
    beyond = stop - entry - WORD  # the last are followed by something else
    for block in range(LANES if beyond else 0):
        bits[block] &= (1 << WORD + beyond) - 1


@inlined
def _visited(first, last, entries):
    """[begin, end) of a tile's entries that a backward pass has to visit: drawn, and with a gradient or behind such."""
    end = last
    while end > first and entries[ENTRY * (end - 1) + BLOCKS] == 0:
        end -= 1
    begin = first
    while begin < end and (entries[ENTRY * begin + BLOCKS] == 0 or entries[ENTRY * begin + ROW] < 0):
        begin += 1
    return begin, end


@inlined
def _pixels(like, x0, y0, block):
    """The centres of a block's pixels."""
    return (
        lane_columns(like) + (x0 + block % 4 * BLOCK + 0.5),
        lane_rows(like) + (y0 + block // 4 * BLOCK + 0.5),
    )


@task
def _forward_tiles(
    start, stop, tiles_x, records, firsts, entries, background, transmittance, stops, ends, color, alpha
):  # fmt: skip
    height, width, channels = color.shape
    fourth = channels == CHANNELS
    zero, never = splat(records, 0.0), splat(records, _NEVER)
    T, limits, bits = room(records, _PIXELS), room(records, _PIXELS), room(firsts, LANES)
    planes = room(records, _PIXELS), room(records, _PIXELS), room(records, _PIXELS), room(records, _PIXELS)
    for tile in range(start, stop):
        x0, y0 = tile % tiles_x * TILE, tile // tiles_x * TILE
        first, last = firsts[tile], firsts[tile + 1]
        alive = 0
        for block in range(LANES):
            at = block * LANES
            x, y = _pixels(records, x0, y0, block)
            inside = (x < width) & (y < height)
            alive |= np.int64(lane_bits(inside) != 0) << block
            store(T, at, 1.0)
            store(limits, at, select(inside, never, -1.0))
            store(planes[0], at, 0.0)
            store(planes[1], at, 0.0)
            store(planes[2], at, 0.0)
            store(planes[3], at, 0.0)
        begin = first
        while begin < last and alive:
            end = min(begin + WORD, last)
            for entry in range(end, min(end + WORD, last)):
                prefetch(records, _row(entries, entry) * RECORD)
            _list_blocks(records, entries, begin, end, bits)
            waiting = alive
            while waiting:
                block = lowest_bit(waiting)
                waiting &= waiting - 1
                touched = item(bits, block)
                at = block * LANES
                x, y = _pixels(records, x0, y0, block)
                end_T, limit = load(T, at), load(limits, at)
                left = select(limit >= never, end_T, zero)  # nothing where the pixel has stopped
                c0, c1 = load(planes[0], at), load(planes[1], at)
                c2, c3 = load(planes[2], at), load(planes[3], at)
                while touched:
                    entry = begin + lowest_bit(touched)
                    touched &= touched - 1
                    record = _row(entries, entry) * RECORD
                    dx, dy = x - item(records, record + X), y - item(records, record + Y)
                    log2_alpha = _log2_alpha(records, record, dx, dy)
                    hit = log2_alpha >= LOG2_ALPHA_MIN
                    a = select(hit, minimum(exp2(log2_alpha), ALPHA_MAX), zero)
                    after = fma(-left, a, left)
                    goes_on = after > TRANSMITTANCE_MIN
                    weight = select(goes_on, left * a, zero)
                    limit = select(goes_on, limit, minimum(limit, splat(records, entry - first)))
                    end_T = select(goes_on, after, end_T)
                    left = select(goes_on, after, zero)
                    c0 = fma(weight, item(records, record + COLOR), c0)
                    c1 = fma(weight, item(records, record + COLOR + 1), c1)
                    c2 = fma(weight, item(records, record + COLOR + 2), c2)
                    if fourth:
                        c3 = fma(weight, item(records, record + COLOR + 3), c3)
                    drawn = np.int64(lane_bits(weight > 0.0) != 0) << block
                    put(entries, ENTRY * entry + BLOCKS, item(entries, ENTRY * entry + BLOCKS) | drawn)
                alive ^= np.int64(lane_bits(limit >= never) == 0) << block
                store(T, at, end_T)
                store(limits, at, limit)
                store(planes[0], at, c0)
                store(planes[1], at, c1)
                store(planes[2], at, c2)
                store(planes[3], at, c3)
            begin = end
        ends[2 * tile], ends[2 * tile + 1] = _visited(first, begin, entries)
        _copy(T, 0, transmittance, tile * _PIXELS)
        _copy(limits, 0, stops, tile * _PIXELS)
        _show(x0, y0, T, planes, background, color, alpha)


@task
def _backward_tiles(
    start, stop, tiles_x, records, firsts, entries, background, transmittance, stops, ends, grad_color, grad_alpha,
    sums, grad_rows, alone,
):  # fmt: skip
    """The sums of some tiles' entries: into `sums`, one behind the other, or if `alone` added to the rows'."""
    channels = grad_color.shape[2]
    fourth = channels == CHANNELS
    zero = splat(records, 0.0)
    px, py = room(records, _PIXELS), room(records, _PIXELS)
    T = room(records, _PIXELS)
    suffix = room(records, _PIXELS)
    v0, v1 = room(records, _PIXELS), room(records, _PIXELS)
    v2, v3 = room(records, _PIXELS), room(records, _PIXELS)
    for tile in range(start, stop):
        begin, end = ends[2 * tile], ends[2 * tile + 1]
        if begin == end:
            continue
        x0, y0 = tile % tiles_x * TILE, tile // tiles_x * TILE
        for block in range(LANES):
            x, y = _pixels(records, x0, y0, block)
            store(px, block * LANES, x)
            store(py, block * LANES, y)
        stop_at = stops[tile * _PIXELS : (tile + 1) * _PIXELS]
        _copy(transmittance, tile * _PIXELS, T, 0)
        _take(x0, y0, T, (v0, v1, v2, v3), background, grad_color, grad_alpha, suffix)

        for entry in range(end - 1, begin - 1, -1):
            touched = np.int64(item(entries, entry * ENTRY + BLOCKS))
            if touched == 0:
                if not alone:
                    store(sums, entry * LANES, 0.0)
                continue
            wanted = item(entries, entry * ENTRY + ROW) >= 0
            record = _row(entries, entry) * RECORD
            ahead = _row(entries, max(entry - _AHEAD, begin)) * RECORD
            prefetch(records, ahead)
            if alone:
                prefetch(grad_rows, ahead)
            position = splat(records, entry - firsts[tile])
            center_x, center_y = item(records, record + X), item(records, record + Y)
            s = sx = sy = sxx = sxy = syy = g0 = g1 = g2 = g3 = zero
            while touched:
                block = lowest_bit(touched)
                touched &= touched - 1
                at = block * LANES
                dx, dy = load(px, at) - center_x, load(py, at) - center_y
                log2_alpha = _log2_alpha(records, record, dx, dy)
                raw = exp2(log2_alpha)
                hit = (log2_alpha >= LOG2_ALPHA_MIN) & (position < load(stop_at, at))
                a = select(hit, minimum(raw, ALPHA_MAX), zero)
                inverse = 1.0 / (1.0 - a)
                before = load(T, at) * inverse
                weight = a * before
                behind = load(suffix, at)
                q = load(v0, at) * item(records, record + COLOR)
                q = fma(load(v1, at), item(records, record + COLOR + 1), q)
                q = fma(load(v2, at), item(records, record + COLOR + 2), q)
                if fourth:
                    q = fma(load(v3, at), item(records, record + COLOR + 3), q)
                store(T, at, before)
                store(suffix, at, fma(weight, q, behind))
                if not wanted:
                    continue
                g0 = fma(weight, load(v0, at), g0)
                g1 = fma(weight, load(v1, at), g1)
                g2 = fma(weight, load(v2, at), g2)
                if fourth:
                    g3 = fma(weight, load(v3, at), g3)
                grad_sigma = a * fma(behind, inverse, -(before * q))
                grad_sigma = select(raw <= ALPHA_MAX, grad_sigma, zero)
                gx, gy = grad_sigma * dx, grad_sigma * dy
                s, sx, sy = s + grad_sigma, sx + gx, sy + gy
                sxx, sxy, syy = fma(gx, dx, sxx), fma(gx, dy, sxy), fma(gy, dy, syy)
            if wanted:
                total = lane_sums((s, sx, sy, sxx, sxy, syy, g0, g1, g2, g3))
                if alone:
                    store(grad_rows, record, load(grad_rows, record) + total)
                else:
                    store(sums, entry * LANES, total)


@task
def _gather(
    start, stop, ids, visible, conics, targets, slots, spans, ends, sums, grad_rows, grad_means2d, alone
):
    """Add up the slots of one chunk's rows, if not `alone`, and write the gradients with respect to means2d."""
    grad_means2d[2 * start : 2 * stop] = 0
    last = start + visible[start // GRAIN]
    for row in range(start, last):
        g = ids[row]
        if len(targets) and targets[g] < 0:
            continue
        if not alone:
            ahead = min(row + _AHEAD, last - 1)
            # a tile's sums are together: a cache miss per Gaussian
            if spans[2 * ahead] < spans[2 * ahead + 1]:
                prefetch(sums, slots[SLOT_FIELDS * spans[2 * ahead] + SLOT_ENTRY] * LANES)
            total = splat(sums, 0.0)
            for slot in range(spans[2 * row], spans[2 * row + 1]):
                tile, entry = slots[SLOT_FIELDS * slot + SLOT_TILE], slots[SLOT_FIELDS * slot + SLOT_ENTRY]
                if ends[2 * tile] <= entry < ends[2 * tile + 1]:
                    total += load(sums, entry * LANES)
            store(grad_rows, row * RECORD, total)
        sx, sy = item(grad_rows, row * RECORD + 1), item(grad_rows, row * RECORD + 2)
        a, b, c = item(conics, 3 * g), item(conics, 3 * g + 1), item(conics, 3 * g + 2)
        put(grad_means2d, 2 * g, -(a * sx + b * sy))
        put(grad_means2d, 2 * g + 1, -(b * sx + c * sy))
