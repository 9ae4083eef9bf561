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
from dataclasses import dataclass

import numpy as np
from numba import njit

from .simd import lane_bits, lane_columns, lane_rows, maximum, minimum, select, sqrt
from .threads import parallel

TILE = 16
BLOCK = 4
CHANNELS = 4  # a compositing pass carries colour and depth; missing channels are zero
# One record per visible Gaussian, in depth order.
X, Y, L11, L12, L22, LOG2_OPACITY, COLOR = range(7)
RECORD = COLOR + CHANNELS
_RANKS_PER_CHUNK = 4096
_HALF_LOG2_E = 0.5 / math.log(2)


@dataclass
class TileLists:
    """The visible Gaussians of one view, ordered and listed by tile."""

    order: np.ndarray  # [V] Gaussian of each rank
    records: np.ndarray  # [V * RECORD]
    slots: np.ndarray  # [V + 1] first slot of each rank
    entries: np.ndarray  # [tiles + 1] first entry of each tile
    entry_rank: np.ndarray  # [M]
    entry_slot: np.ndarray  # [M]
    entry_blocks: np.ndarray  # [M] bit b: the Gaussian reaches block b of the tile
    tiles_x: int
    tiles_y: int


def build(means2d, conics, depths, radii, opacities, colors, width: int, height: int) -> TileLists:
    """The tile lists of one view. Arrays are [N, 2], [N, 3], [N], [N, 2], [N] and [N, D] with D <= 4."""
    tiles_x, tiles_y = -(-width // TILE), -(-height // TILE)
    order = _depth_order(depths, radii)
    visible = len(order)
    records = np.empty(visible * RECORD, means2d.dtype)
    boxes = np.empty((visible, 4), np.int32)
    first = np.zeros(visible + 1, np.int64)  # first candidate pair of each rank
    chunks = -(-visible // _RANKS_PER_CHUNK)
    parallel(_pack, visible, order, means2d, conics, opacities, colors, width, height, records, boxes, first,
             grain=_RANKS_PER_CHUNK)  # fmt: skip
    np.cumsum(first, out=first)

    tile = np.empty(first[-1], np.int32)
    blocks = np.empty(first[-1], np.uint16)
    slots = np.zeros(visible + 1, np.int64)
    cursors = np.zeros((tiles_x * tiles_y, chunks), np.int64)
    parallel(_reach, chunks, records, boxes, first, tiles_x, tile, blocks, slots, cursors)
    np.cumsum(slots, out=slots)

    ends = np.cumsum(cursors.ravel()).reshape(cursors.shape)
    cursors = ends - cursors
    entries = np.append(cursors[:, 0], slots[-1]) if chunks else np.zeros(tiles_x * tiles_y + 1, np.int64)
    entry_rank, entry_slot = np.empty(slots[-1], np.int32), np.empty(slots[-1], np.int32)
    entry_blocks = np.empty(slots[-1], np.uint16)
    parallel(_deal, chunks, first, tile, blocks, slots, cursors, entry_rank, entry_slot, entry_blocks)
    return TileLists(order, records, slots, entries, entry_rank, entry_slot, entry_blocks, tiles_x, tiles_y)


def _depth_order(depths: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """The visible Gaussians from near to far; equal depths keep their index order."""
    keys = depths.view(np.uint32 if depths.dtype == np.float32 else np.uint64)
    return _radix_order(keys, radii, depths.dtype.itemsize * 8)


@njit(nogil=True, cache=True)
def _radix_order(keys, radii, bits):
    """Stable least-significant-digit radix sort. Positive floats order like their bits."""
    digit = 11
    passes = (bits + digit - 1) // digit
    radix = 1 << digit
    count = 0
    histogram = np.zeros((passes, radix), np.int64)
    order = np.empty(len(keys), np.int32)
    key = np.empty(len(keys), keys.dtype)
    for i in range(len(keys)):
        if radii[i, 0] > 0 and radii[i, 1] > 0:
            order[count] = i
            key[count] = keys[i]
            count += 1
            for p in range(passes):
                histogram[p, (keys[i] >> (p * digit)) & (radix - 1)] += 1
    other_order, other_key = np.empty(count, np.int32), np.empty(count, keys.dtype)
    order, key = order[:count].copy(), key[:count].copy()
    for p in range(passes):
        total = 0
        for d in range(radix):
            total, histogram[p, d] = total + histogram[p, d], total
        for i in range(count):
            d = (key[i] >> (p * digit)) & (radix - 1)
            place = histogram[p, d]
            histogram[p, d] = place + 1
            other_order[place] = order[i]
            other_key[place] = key[i]
        order, other_order = other_order, order
        key, other_key = other_key, key
    return order


@njit(nogil=True, cache=True)
def _pack(start, stop, order, means2d, conics, opacities, colors, width, height, records, boxes, candidates):
    """Write the records and bounding boxes (in tiles) of some ranks, and count the tiles in each box."""
    for r in range(start, stop):
        g = order[r]
        a, b, c = np.float64(conics[g, 0]), np.float64(conics[g, 1]), np.float64(conics[g, 2])
        opacity = np.float64(opacities[g])
        schur = c - b * b / a
        finite = True
        record = r * RECORD
        for k in range(CHANNELS):
            color = colors[g, k] if k < colors.shape[1] else 0
            finite &= math.isfinite(color)
            records[record + COLOR + k] = color
        if not (finite and schur > 0 and a > 0 and opacity * 255 >= 1):
            continue
        l11, l22 = math.sqrt(a * _HALF_LOG2_E), math.sqrt(schur * _HALF_LOG2_E)
        l12 = b * _HALF_LOG2_E / l11
        records[record + X] = means2d[g, 0]
        records[record + Y] = means2d[g, 1]
        records[record + L11] = l11
        records[record + L12] = l12
        records[record + L22] = l22
        records[record + LOG2_OPACITY] = math.log2(opacity)
        reach = math.sqrt(_support(math.log2(opacity)))
        reach_x, reach_y = reach * math.hypot(l12, l22) / (l11 * l22), reach / l22
        box_x0, box_x1 = _tile_range(means2d[g, 0], reach_x, width)
        box_y0, box_y1 = _tile_range(means2d[g, 1], reach_y, height)
        boxes[r, 0], boxes[r, 1], boxes[r, 2], boxes[r, 3] = box_x0, box_x1, box_y0, box_y1
        candidates[r + 1] = (box_x1 - box_x0) * (box_y1 - box_y0)


@njit(nogil=True, cache=True, inline="always")
def _support(log2_opacity):
    """log2(255 o), a hair more so that rounding never drops a pixel; the α >= 1/255 test itself is per pixel."""
    return log2_opacity + 7.9943534368588578 + 1e-3


@njit(nogil=True, cache=True)
def _tile_range(center, reach, size):
    """The tiles [first, last) whose pixel centres lie within `reach` of `center` along one axis."""
    low = math.ceil(min(max(center - reach - 0.5, 0.0), float(size)))
    high = math.floor(min(max(center + reach + 0.5, 0.0), float(size)))
    return (low // TILE, (high + TILE - 1) // TILE) if low < high else (0, 0)


@njit(nogil=True, cache=True)
def _reach(start, stop, records, boxes, first, tiles_x, tile, blocks, slots, counts):
    """For each candidate pair of some chunks of ranks, the blocks that the support reaches (0: none).

    Within a strip of rows the ellipse spans the widest chord the strip contains; lanes are the 16 blocks.
    """
    columns, rows = BLOCK * lane_columns(records), BLOCK * lane_rows(records)
    for r in range(start * _RANKS_PER_CHUNK, min(stop * _RANKS_PER_CHUNK, len(boxes))):
        chunk = r // _RANKS_PER_CHUNK
        pair = first[r]
        if first[r + 1] == pair:
            continue
        record = r * RECORD
        l11, l12, l22 = records[record + L11], records[record + L12], records[record + L22]
        support = _support(records[record + LOG2_OPACITY])
        half_height = math.sqrt(support) / l22
        widest = -half_height * l12 / math.hypot(l12, l22)  # the dy of the rightmost point
        for ty in range(boxes[r, 2], boxes[r, 3]):
            top = rows + (ty * TILE + 0.5 - records[record + Y])
            bottom = top + (BLOCK - 1.0)
            dy = minimum(maximum(top, widest), bottom)
            chord = maximum(support - (l22 * dy) * (l22 * dy), 0.0)
            right = (sqrt(chord) - l12 * dy) / l11
            dy = minimum(maximum(top, -widest), bottom)
            chord = maximum(support - (l22 * dy) * (l22 * dy), 0.0)
            left = -(sqrt(chord) + l12 * dy) / l11
            strip = (top <= half_height) & (bottom >= -half_height)
            for tx in range(boxes[r, 0], boxes[r, 1]):
                near = columns + (tx * TILE + 0.5 - records[record + X])
                bits = lane_bits(strip & (near <= right) & (near + (BLOCK - 1.0) >= left))
                tile[pair] = ty * tiles_x + tx
                blocks[pair] = bits
                pair += 1
                if bits:
                    slots[r + 1] += 1
                    counts[ty * tiles_x + tx, chunk] += 1


@njit(nogil=True, cache=True)
def _deal(start, stop, first, tile, blocks, slots, cursors, entry_rank, entry_slot, entry_blocks):
    """Append the surviving pairs of some chunks to their tiles' lists, in rank order."""
    for chunk in range(start, stop):
        last = min((chunk + 1) * _RANKS_PER_CHUNK, len(first) - 1)
        for r in range(chunk * _RANKS_PER_CHUNK, last):
            slot = slots[r]
            for pair in range(first[r], first[r + 1]):
                if blocks[pair]:
                    entry = cursors[tile[pair], chunk]
                    cursors[tile[pair], chunk] = entry + 1
                    entry_rank[entry] = r
                    entry_slot[entry] = slot
                    entry_blocks[entry] = blocks[pair]
                    slot += 1
