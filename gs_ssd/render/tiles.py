"""From projected Gaussians to depth-ordered lists per 16x16 tile.

A tile is 4x4 blocks of 4x4 pixels, and a block is one SIMD vector. A projected Gaussian (mean μ, conic Q,
opacity o) has at pixel p, with d = p - μ, the opacity

    α = o exp(-½ dᵀQd) = 2^(log2 o - u² - v²),     u = l11 dx + l12 dy,  v = l22 dy,

where [[l11, l12], [0, l22]] is the Cholesky factor of Q log2(e)/2. That form cannot go negative when a needle's
conic is rounded. Its support, where α >= 1/255, is the ellipse u² + v² <= log2(255 o): we enumerate exactly the
blocks it reaches, and a (Gaussian, tile) pair survives only if at least one does.

Gaussians are sorted by depth once and then dealt to the tiles in that order, so no tile needs a sort.
A *rank* is a position in that order, a *slot* numbers the (Gaussian, tile) pairs with the Gaussian outermost,
and an *entry* numbers the same pairs with the tile outermost.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gs_ssd.render.compilation import kernel
from gs_ssd.render.simd import (
    LANES,
    aligned,
    ceil,
    fill_lanes,
    floor,
    gather,
    inlined,
    lane_bits,
    lane_columns,
    lane_rows,
    log2,
    maximum,
    minimum,
    scatter,
    select,
    splat,
    sqrt,
)
from gs_ssd.render.threads import parallel

TILE = 16
BLOCK = 4
CHANNELS = 4  # a compositing pass carries colour and depth; missing channels are zero

# A record describes one visible Gaussian, and fills one cache line in float32.
X, Y, L11, L12, L22, LOG2_OPACITY, COLOR = range(7)
SUPPORT, HALF_HEIGHT, WIDEST, INVERSE_L11 = range(COLOR + CHANNELS, COLOR + CHANNELS + 4)
RECORD = 16
# An entry is (rank, slot, blocks): bit b of blocks says that the Gaussian reaches block b of the tile.
RANK, SLOT, BLOCKS = range(3)
ENTRY = 3
_RANKS_PER_CHUNK = 2048
_HALF_LOG2_E = 0.5 / math.log(2)
_LOG2_255 = (
    math.log2(255) + 1e-3
)  # a hair more, so that rounding drops no pixel: α >= 1/255 is tested per pixel


class TileLists(NamedTuple):
    """The visible Gaussians of one view, ordered and listed by tile."""

    ranks: np.ndarray  # [N] rank of each Gaussian, -1 if culled
    records: np.ndarray  # [V * RECORD]
    slots: np.ndarray  # [V + 1] first slot of each rank
    firsts: np.ndarray  # [tiles + 1] first entry of each tile
    entries: np.ndarray  # [M * ENTRY]
    tiles_x: int
    tiles_y: int


@kernel
def build(team, means2d, conics, depths, colors, opacities, channels, width, height):
    """The tile lists of one view, from flat arrays; culled Gaussians have a zero conic."""
    tiles_x, tiles_y = -(-width // TILE), -(-height // TILE)
    order, ranks = _depth_order(depths, conics)
    visible = len(order)
    records = aligned(visible * RECORD, means2d)
    boxes = np.empty(visible * 4, np.int32)
    candidates = np.zeros(visible + 1, np.int64)
    parallel(team, _pack, visible, _RANKS_PER_CHUNK, (order, means2d, conics, opacities, colors, channels,
             width, height, records, boxes, candidates))  # fmt: skip
    _accumulate(candidates)

    chunks = -(-visible // _RANKS_PER_CHUNK)
    pairs = np.empty(candidates[-1] * 2, np.int32)
    slots = np.zeros(visible + 1, np.int64)
    cursors = np.zeros((tiles_x * tiles_y, chunks), np.int64)
    parallel(team, _reach, chunks, 1, (records, boxes, candidates, tiles_x, pairs, slots, cursors))
    _accumulate(slots)

    firsts = np.empty(tiles_x * tiles_y + 1, np.int64)
    entry = 0
    for tile in range(tiles_x * tiles_y):
        firsts[tile] = entry
        for chunk in range(chunks):
            entry, cursors[tile, chunk] = entry + cursors[tile, chunk], entry
    firsts[-1] = entry
    entries = np.empty(entry * ENTRY, np.int32)
    parallel(team, _deal, chunks, 1, (candidates, pairs, slots, cursors, entries))
    return TileLists(ranks, records, slots, firsts, entries, tiles_x, tiles_y)


@inlined
def _accumulate(counts):
    """Running sums, in place."""
    for i in range(1, len(counts)):
        counts[i] += counts[i - 1]


@inlined
def _depth_order(depths, conics):
    """The visible Gaussians from near to far, equal depths in index order, and the inverse permutation."""
    visible = np.flatnonzero(conics[::3] > 0)
    if depths.itemsize == 4:
        order = _radix_order(depths.view(np.uint32), visible)
    else:
        order = visible[np.argsort(depths[visible], kind="mergesort")]
    ranks = np.full(len(depths), -1, np.int64)
    for rank in range(len(order)):
        ranks[order[rank]] = rank
    return order, ranks


@kernel
def _radix_order(bits, visible):
    """Stable radix sort of `visible` by `bits`, a byte at a time. Positive floats order like their bits."""
    count = len(visible)
    mask = np.uint64(255)
    keys, spare = np.empty(count, np.uint64), np.empty(count, np.uint64)
    histogram = np.zeros((4, 256), np.int64)
    for i in range(count):
        key = np.uint64(bits[visible[i]])
        keys[i] = key << np.uint64(32) | np.uint64(visible[i])
        for digit in range(4):
            histogram[digit, (key >> np.uint64(8 * digit)) & mask] += 1
    for digit in range(4):
        if histogram[digit].max() == count:
            continue
        total = 0
        for d in range(256):
            total, histogram[digit, d] = total + histogram[digit, d], total
        shift = np.uint64(32 + 8 * digit)
        for i in range(count):
            d = (keys[i] >> shift) & mask
            spare[histogram[digit, d]] = keys[i]
            histogram[digit, d] += 1
        keys, spare = spare, keys
    order = np.empty(count, np.int64)
    for i in range(count):
        order[i] = keys[i] & np.uint64(0xFFFFFFFF)
    return order


@kernel
def _pack(
    start,
    stop,
    order,
    means2d,
    conics,
    opacities,
    colors,
    channels,
    width,
    height,
    records,
    boxes,
    candidates,
):
    """Write the records and bounding boxes (in tiles) of ranks [start, stop), and count the tiles in each box."""
    zero = splat(records, 0.0)
    ranks, lanes = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    for first in range(start, stop, LANES):
        fill_lanes(ranks, first, stop)
        for lane in range(LANES):
            lanes[lane] = order[ranks[lane]]
        x, y = gather(means2d, lanes, 2, 0), gather(means2d, lanes, 2, 1)
        a, b, c = gather(conics, lanes, 3, 0), gather(conics, lanes, 3, 1), gather(conics, lanes, 3, 2)
        log2_opacity = log2(gather(opacities, lanes, 1, 0))
        schur = c - b * b / a
        valid = schur > 0.0
        for k in range(CHANNELS):
            color = gather(colors, lanes, channels, k) if k < channels else zero
            valid = valid & (color - color <= 0.0)  # neither infinite nor NaN
            scatter(records, ranks, RECORD, COLOR + k, color)

        l11, l22 = sqrt(a * _HALF_LOG2_E), sqrt(schur * _HALF_LOG2_E)
        inverse = 1.0 / l11
        l12 = b * _HALF_LOG2_E * inverse
        slant = sqrt(l12 * l12 + l22 * l22)
        support = maximum(log2_opacity + _LOG2_255, 0.0)
        half_height = sqrt(support) / l22
        scatter(records, ranks, RECORD, X, x)
        scatter(records, ranks, RECORD, Y, y)
        scatter(records, ranks, RECORD, L11, l11)
        scatter(records, ranks, RECORD, L12, l12)
        scatter(records, ranks, RECORD, L22, l22)
        scatter(records, ranks, RECORD, LOG2_OPACITY, log2_opacity)
        scatter(records, ranks, RECORD, SUPPORT, support)
        scatter(records, ranks, RECORD, HALF_HEIGHT, half_height)
        scatter(records, ranks, RECORD, WIDEST, -half_height * l12 / slant)  # the dy of the rightmost point
        scatter(records, ranks, RECORD, INVERSE_L11, inverse)

        x0, x1 = _tile_range(x, half_height * slant * inverse, width, valid, zero)
        y0, y1 = _tile_range(y, half_height, height, valid, zero)
        scatter(boxes, ranks, 4, 0, x0)
        scatter(boxes, ranks, 4, 1, x1)
        scatter(boxes, ranks, 4, 2, y0)
        scatter(boxes, ranks, 4, 3, y1)
        for r in range(first, min(first + LANES, stop)):
            box = boxes[4 * r : 4 * r + 4]
            candidates[r + 1] = np.int64(box[1] - box[0]) * np.int64(box[3] - box[2])


@inlined
def _tile_range(center, reach, size, valid, zero):
    """The tiles [first, last) with pixel centres within `reach` of `center` along one axis; empty if not valid."""
    low = ceil(maximum(center - reach - 0.5, 0.0))
    high = floor(minimum(center + reach + 0.5, size))
    some = valid & (low < high)
    return select(some, floor(low / TILE), zero), select(some, ceil(high / TILE), zero)


@kernel
def _reach(start, stop, records, boxes, candidates, tiles_x, pairs, slots, cursors):
    """For each candidate pair of some chunks of ranks, its tile and the blocks that the support reaches (0: none).

    Within a strip of rows the ellipse spans the widest chord the strip contains; lanes are the 16 blocks.
    """
    columns, rows = BLOCK * lane_columns(records), BLOCK * lane_rows(records)
    for r in range(start * _RANKS_PER_CHUNK, min(stop * _RANKS_PER_CHUNK, len(slots) - 1)):
        pair = candidates[r]
        if candidates[r + 1] == pair:
            continue
        chunk = r // _RANKS_PER_CHUNK
        record, box = records[r * RECORD : (r + 1) * RECORD], boxes[4 * r : 4 * r + 4]
        l12, l22, half_height, widest = record[L12], record[L22], record[HALF_HEIGHT], record[WIDEST]
        survivors = 0
        for ty in range(box[2], box[3]):
            top = rows + (ty * TILE + 0.5 - record[Y])
            bottom = top + (BLOCK - 1.0)
            dy = minimum(maximum(top, widest), bottom)
            v = l22 * dy
            right = (sqrt(maximum(record[SUPPORT] - v * v, 0.0)) - l12 * dy) * record[INVERSE_L11]
            dy = minimum(maximum(top, -widest), bottom)
            v = l22 * dy
            left = (sqrt(maximum(record[SUPPORT] - v * v, 0.0)) + l12 * dy) * -record[INVERSE_L11]
            strip = (top <= half_height) & (bottom >= -half_height)
            for tx in range(box[0], box[1]):
                near = columns + (tx * TILE + 0.5 - record[X])
                blocks = lane_bits(strip & (near <= right) & (near + (BLOCK - 1.0) >= left))
                tile = ty * tiles_x + tx
                pairs[2 * pair] = tile
                pairs[2 * pair + 1] = blocks
                pair += 1
                some = np.int64(blocks != 0)
                survivors += some
                cursors[tile, chunk] += some
        slots[r + 1] = survivors


@kernel
def _deal(start, stop, candidates, pairs, slots, cursors, entries):
    """Append the surviving pairs of some chunks to their tiles' lists, in rank order."""
    for chunk in range(start, stop):
        for r in range(chunk * _RANKS_PER_CHUNK, min((chunk + 1) * _RANKS_PER_CHUNK, len(slots) - 1)):
            slot = slots[r]
            for pair in range(candidates[r], candidates[r + 1]):
                tile, blocks = pairs[2 * pair], pairs[2 * pair + 1]
                if blocks:
                    entry = cursors[tile, chunk] * ENTRY
                    cursors[tile, chunk] += 1
                    entries[entry + RANK] = r
                    entries[entry + SLOT] = slot
                    entries[entry + BLOCKS] = blocks
                    slot += 1
