"""From packed splats to depth-ordered lists per 16x16 tile.

A tile is 4x4 blocks of 4x4 pixels, and a block is one SIMD vector. A projected Gaussian (mean μ, conic Q,
opacity o) has at pixel p, with d = p - μ, the opacity

    α = o exp(-½ dᵀQd) = 2^(log2 o - u² - v²),     u = l11 dx + l12 dy,  v = l22 dy,

where [[l11, l12], [0, l22]] is the Cholesky factor of Q log2(e)/2. That form cannot go negative when a needle's
conic is rounded. Its support, where α >= 1/255, is the ellipse u² + v² <= log2(255 o): we enumerate exactly the
blocks it reaches, and a (Gaussian, tile) pair survives only if at least one does.

Every row (see `projection`) has a range of *slots*, one for each tile it reaches; a tile has a range of *entries*,
the same pairs with the tile outermost. The rows are sorted by depth once, equal depths in index order, and then dealt
to the tiles in that order, so no tile needs a sort.
"""

from __future__ import annotations

import math

import numpy as np

from gs_ssd.render.compilation import kernel, task
from gs_ssd.render.simd import (
    ceil,
    floor,
    fma,
    inlined,
    item,
    lane_bits,
    lane_columns,
    lane_halves,
    lane_signs,
    lane_total,
    log2,
    maximum,
    minimum,
    prefetch,
    put,
    select,
    splat,
    spread,
    sqrt,
)
from gs_ssd.render.threads import GRAIN, parallel

TILE = 16
BLOCK = 4
CHANNELS = 4  # a compositing pass carries colour and depth; missing channels are zero

# A record describes one Gaussian in view, and fills one cache line in float32. Its box is in tiles.
X, Y, L11, L12, L22, LOG2_OPACITY, COLOR = range(7)
SUPPORT, HALF_HEIGHT, WIDEST, INVERSE_L11, BOX_X, BOX_Y = range(COLOR + CHANNELS, COLOR + CHANNELS + 6)
RECORD = 16
# An entry is (row, blocks): the row is ~row where no gradient is wanted, and bit b of blocks says that the Gaussian
# reaches block b of the tile.
ROW, BLOCKS = range(2)
ENTRY = 2
# A slot is (tile, blocks); once it is dealt, (tile, entry).
SLOT_TILE, SLOT_ENTRY = range(2)
SLOT_FIELDS = 2
_BOX_BITS = 12
_BOX = 1 << _BOX_BITS  # a box's sides are kept as first * 4096 + last, which float32 holds exactly
MAX_SIZE = (_BOX - 1) * TILE
_NOWHERE = 3e38  # the end of a chord that there is not
_CHUNKS = 8  # at a time
_RADIX_BITS = 12  # their counts fill no more than the first cache
_RADIX = 1 << _RADIX_BITS
_GROUPS = 32  # of rows that threads deal at the same time
_AHEAD = 8  # how many rows ahead to prefetch
_HALF_LOG2_E = 0.5 / math.log(2)
_LOG2_255 = (
    math.log2(255) + 1e-3
)  # a hair more, so that rounding drops no pixel: α >= 1/255 is tested per pixel


@inlined
def pack_box(center, conic, opacity, colors, finite, width, height, bits):
    """The 16 columns of 16 records, and the number of tiles in the boxes of lanes `bits`: none if not `finite`."""
    x, y = center
    a, b, c = conic
    zero = splat(x, 0.0)
    log2_opacity = log2(opacity)
    schur = c - b * b / a
    l11, l22 = sqrt(a * _HALF_LOG2_E), sqrt(schur * _HALF_LOG2_E)
    inverse = 1.0 / l11
    l12 = b * _HALF_LOG2_E * inverse
    slant = sqrt(l12 * l12 + l22 * l22)
    support = maximum(log2_opacity + _LOG2_255, 0.0)
    half_height = sqrt(support) / l22
    widest = -half_height * l12 / slant  # the dy of the rightmost point
    valid = (schur > 0.0) & finite
    x0, x1 = _tile_range(x, half_height * slant * inverse, width, valid, zero)
    y0, y1 = _tile_range(y, half_height, height, valid, zero)
    box = support, half_height, widest, inverse, x0 * _BOX + x1, y0 * _BOX + y1
    columns = (x, y, l11, l12, l22, log2_opacity) + colors + box  # noqa: RUF005 - numba's tuples only add up
    return columns, lane_total((x1 - x0) * (y1 - y0), bits)


@inlined
def _tile_range(center, reach, size, valid, zero):
    """The tiles [first, last) with pixel centres within `reach` of `center` along one axis; empty if not valid."""
    low = ceil(maximum(center - reach - 0.5, 0.0))
    high = floor(minimum(center + reach + 0.5, size))
    some = valid & (low < high)
    return select(some, floor(low / TILE), zero), select(some, ceil(high / TILE), zero)


@kernel
def build(team, tiles_x, records, ids, visible, candidates, depths, targets, slots, spans, firsts, entries):
    """Fill the lists of a view of `len(firsts) - 1` tiles, from near to far.

    Args:
        records, ids, visible, candidates: from `projection.project`; candidates is where a chunk's slots begin.
        targets: [N] int32, where a Gaussian's gradient goes, -1: it wants none; or empty for all.
        slots [2 * pairs], spans [2 * rows]: a row's slots are [spans[2 row], spans[2 row + 1]).
        firsts [tiles + 1], entries [2 * pairs].
    """
    chunks = len(visible)
    groups = _GROUPS if team else 1
    cursors = np.zeros((groups, len(firsts) - 1), np.int64)
    counts = cursors[0, : 0 if team else len(firsts) - 1]  # for a single group, counted by `_reach()`
    parallel(team, _reach, chunks, _CHUNKS, (tiles_x, records, visible, candidates, slots, spans, counts))
    order = _depth_order(depths, ids, _rows(visible))
    if team:
        parallel(team, _count, groups, 1, (groups, order, slots, spans, cursors))
    entry = 0
    for tile in range(len(firsts) - 1):
        firsts[tile] = entry
        for group in range(groups):
            entry, cursors[group, tile] = entry + cursors[group, tile], entry
    firsts[-1] = entry
    parallel(team, _deal, groups, 1, (groups, order, ids, targets, slots, spans, cursors, entries))


@inlined
def _rows_of(group, groups, order):
    return range(group * len(order) // groups, (group + 1) * len(order) // groups)


@task
def _reach(start, stop, tiles_x, records, visible, candidates, slots, spans, counts):
    """The slots of some chunks: the tiles that a support reaches, and which of their blocks; by tile, how many.

    Within a strip of rows the ellipse spans the widest chord the strip contains. Lanes are the right and the left ends
    of a tile's four chords, and those of the tile below.
    """
    side = lane_signs(records)
    rows = BLOCK * lane_columns(records) + TILE * lane_halves(records)
    columns = BLOCK * lane_columns(records)
    for chunk in range(start, stop):
        slot = candidates[chunk]
        for row in range(chunk * GRAIN, chunk * GRAIN + visible[chunk]):
            put(spans, 2 * row, slot)
            at = row * RECORD
            box_x, box_y = np.int64(item(records, at + BOX_X)), np.int64(item(records, at + BOX_Y))
            x0, x1 = box_x >> _BOX_BITS, box_x & (_BOX - 1)
            y0, y1 = box_y >> _BOX_BITS, box_y & (_BOX - 1)
            l22, half_height = item(records, at + L22), item(records, at + HALF_HEIGHT)
            l12, inverse = side * item(records, at + L12), side * item(records, at + INVERSE_L11)
            widest, support = side * item(records, at + WIDEST), splat(records, item(records, at + SUPPORT))
            near = columns + np.float32(x0 * TILE) + (0.5 - item(records, at + X))
            top = rows + np.float32(y0 * TILE) + (0.5 - item(records, at + Y))
            line = y0 * tiles_x
            for ty in range(y0, y1 if x0 < x1 else y0, 2):
                bottom = top + (BLOCK - 1.0)
                dy = minimum(maximum(top, widest), bottom)
                v = l22 * dy
                ends = (sqrt(maximum(fma(-v, v, support), 0.0)) - l12 * dy) * inverse
                ends = select((top <= half_height) & (bottom >= -half_height), ends, -_NOWHERE * side)
                slot = _reach_line(near, x0, x1, line, spread(ends, 0), spread(ends, 1), slots, counts, slot)
                line += tiles_x
                if ty + 1 < y1:
                    slot = _reach_line(
                        near, x0, x1, line, spread(ends, 2), spread(ends, 3), slots, counts, slot
                    )
                line += tiles_x
                top = top + 2.0 * TILE
            put(spans, 2 * row + 1, slot)


@inlined
def _reach_line(near, x0, x1, line, right, left, slots, counts, slot):
    """The slots of a row of tiles [x0, x1), given where its chords end. Lanes are a tile's 16 blocks."""
    left = left - (BLOCK - 1.0)
    for tile in range(line + x0, line + x1):
        blocks = lane_bits((near <= right) & (near >= left))
        put(slots, SLOT_FIELDS * slot, tile)
        put(slots, SLOT_FIELDS * slot + 1, blocks)
        some = np.int64(blocks != 0)  # no branch, since a box has room for all its tiles
        if len(counts):
            put(counts, tile, item(counts, tile) + some)
        slot += some
        near = near + 1.0 * TILE
    return slot


@kernel
def _rows(visible):
    """All rows, in index order."""
    rows = np.empty(visible.sum(), np.int32)
    count = 0
    for chunk in range(len(visible)):
        for row in range(chunk * GRAIN, chunk * GRAIN + visible[chunk]):
            rows[count] = row
            count += 1
    return rows


@kernel
def _depth_order(depths, ids, rows):
    """The rows from near to far, equal depths in index order."""
    if depths.itemsize == 4:
        return _radix_order(depths.view(np.uint32), ids, rows)
    return rows[np.argsort(depths[ids[rows]], kind="mergesort")]


@kernel
def _radix_order(bits, ids, rows):
    """Stable radix sort of `rows` by `bits[ids[row]]`, 12 bits at a time. Positive floats order like their bits."""
    count, low, mask = len(rows), np.uint64(0xFFFFFFFF), np.uint64(_RADIX - 1)
    keys, spare, ends = np.empty(count, np.uint64), np.empty(count, np.uint64), np.empty(_RADIX, np.uint32)
    least, most = low, np.uint64(0)
    for i in range(count):
        key = np.uint64(bits[ids[rows[i]]])
        least, most = min(least, key), max(most, key)
        keys[i] = key << np.uint64(32) | np.uint64(rows[i])
    base, shift = least << np.uint64(32), np.uint64(32)
    while count and (most - least) >> (shift - np.uint64(32)):  # depths of a scene differ in 24 bits or so
        ends[:] = 0
        for i in range(count):
            ends[(keys[i] - base) >> shift & mask] += 1
        total = np.uint64(0)
        for digit in range(_RADIX):
            total, ends[digit] = total + ends[digit], total
        for i in range(count):
            digit = (keys[i] - base) >> shift & mask
            spare[ends[digit]] = keys[i]
            ends[digit] += 1
        keys, spare, shift = spare, keys, shift + np.uint64(_RADIX_BITS)
    order = np.empty(count, np.int32)
    for i in range(count):
        order[i] = keys[i] & low
    return order


@task
def _count(start, stop, groups, order, slots, spans, cursors):
    """How many entries of each tile come from each group of rows."""
    for group in range(start, stop):
        for rank in _rows_of(group, groups, order):
            row = order[rank]
            for slot in range(spans[2 * row], spans[2 * row + 1]):
                cursors[group, slots[SLOT_FIELDS * slot]] += 1


@task
def _deal(start, stop, groups, order, ids, targets, slots, spans, cursors, entries):
    """Append the slots of some groups of rows to their tiles' lists, from near to far."""
    last = len(order) - 1
    for group in range(start, stop):
        own = cursors[group]
        for rank in _rows_of(group, groups, order):
            prefetch(spans, 2 * item(order, min(rank + 2 * _AHEAD, last)))
            prefetch(slots, SLOT_FIELDS * item(spans, 2 * item(order, min(rank + _AHEAD, last))))
            row = item(order, rank)
            name = ~row if len(targets) and targets[ids[row]] < 0 else row
            for slot in range(item(spans, 2 * row), item(spans, 2 * row + 1)):
                tile = item(slots, SLOT_FIELDS * slot)
                entry = item(own, tile)
                put(own, tile, entry + 1)
                put(entries, entry * ENTRY + ROW, name)
                put(entries, entry * ENTRY + BLOCKS, item(slots, SLOT_FIELDS * slot + 1))
                put(slots, SLOT_FIELDS * slot + SLOT_ENTRY, entry)
