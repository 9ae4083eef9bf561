"""Curves over the steps of a run as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_WIDTH, _HEIGHT = 380, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 6, 8, 22
_POINTS = 400  # more can't be told apart


def curve_svg(
    steps: Sequence[int], values: Sequence[float], *, log: bool = False, smooth: bool = False
) -> str:
    """`values` over `steps`, with axes; colours come from the page's classes raw, trend and grid.

    Args:
        log: logarithmic axis; falls back to a linear one where no value is positive.
        smooth: draw a noisy curve faintly and its running mean over it.
    """
    x, y = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    good = np.isfinite(y) & ((y > 0) if log else True)
    log = log and bool(good.any())
    if not log:
        good = np.isfinite(y)
    x, y = x[good], y[good]
    if not len(x):
        return "<p>no finite values</p>"
    heights = np.log10(y) if log else y
    low, high = _limits(heights)
    span = max(x[-1] - x[0], 1.0)

    def path(xs: np.ndarray, ys: np.ndarray) -> str:
        px = _LEFT + (xs - x[0]) / span * (_WIDTH - _LEFT - _RIGHT)
        py = _HEIGHT - _BOTTOM - (ys - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(px, py))

    lines = []
    if smooth and len(x) > 20:
        window = max(len(x) // 40, 5)
        mean = np.convolve(heights, np.ones(window) / window, "valid")
        lines.append(f'<path class="raw" d="{path(*_thinned(x, heights))}"/>')
        lines.append(f'<path class="trend" d="{path(*_thinned(x[window - 1 :], mean))}"/>')
    else:
        lines.append(f'<path class="trend" d="{path(*_thinned(x, heights))}"/>')
    return "".join([_open(), *_axis(low, high, log), *_feet(x), *lines, "</svg>"])


def _open() -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'


def _limits(heights: np.ndarray) -> tuple[float, float]:
    low, high = float(heights.min()), float(heights.max())
    room = 0.05 * (high - low) or 0.5 * max(abs(high), 1e-12)
    return low - room, high + room


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most about `_POINTS` points; the lowest and the highest of every stretch stay, so no spike is lost."""
    if len(x) <= _POINTS:
        return x, y
    kept: set[int] = {0, len(x) - 1}
    for stretch in np.array_split(np.arange(len(x)), _POINTS // 2):
        kept |= {int(stretch[y[stretch].argmin()]), int(stretch[y[stretch].argmax()])}
    index = np.array(sorted(kept))
    return x[index], y[index]


def _axis(low: float, high: float, log: bool) -> list[str]:
    """Horizontal lines with their values: decades on a logarithmic axis that spans two, else round steps."""
    if log and math.floor(high) - math.ceil(low) >= 1:
        ticks = [float(decade) for decade in range(math.ceil(low), math.floor(high) + 1)]
    else:
        raw = (high - low) / 4
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * k for k in (1, 2, 2.5, 5, 10) if unit * k >= raw)
        ticks = [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    parts = []
    for tick in ticks:
        y = _HEIGHT - _BOTTOM - (tick - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        label = _label(10.0**tick if log else tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    return parts


def _label(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    digits, _, exponent = f"{value:.0e}".partition("e")
    return f"{digits}e{int(exponent)}"


def _feet(x: np.ndarray) -> list[str]:
    y = _HEIGHT - 6
    return [
        f'<text x="{_LEFT}" y="{y}">{x[0]:.0f}</text>',
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{y}" text-anchor="middle">step</text>',
        f'<text x="{_WIDTH - _RIGHT}" y="{y}" text-anchor="end">{x[-1]:.0f}</text>',
    ]
