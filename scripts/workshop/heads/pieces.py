"""Extra parts that are no part of the bust: long hair, hat brim, glasses, cowl ears, clown nose.

Each function returns (position [M, 3], normal [M, 3], sigma [M]) in canonical coordinates.
"""

import numpy as np

from scripts.workshop.heads.geometry import Array, unit

Piece = tuple[Array, Array, Array]


def _both_sides(position: Array, normal: Array, sigma: float) -> Piece:
    """A thin sheet that is seen from either side."""
    return (
        np.concatenate([position, position]),
        np.concatenate([normal, -normal]),
        np.full(2 * len(position), sigma),
    )


def ball(centre, radius: float, detail: float) -> Piece:
    n = int(220 * detail)
    k = np.arange(n) + 0.5
    y, turn = 1 - 2 * k / n, np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - y * y)
    normal = np.stack([r * np.cos(turn), y, r * np.sin(turn)], 1)
    return np.asarray(centre) + radius * normal, normal, np.full(n, radius * 2.6 / np.sqrt(n))


def curtain(detail: float) -> Piece:
    """Long hair: a sheet around the back and the sides, from the temples to the shoulders."""
    n = int(2600 * detail)
    k = np.arange(n)
    phi = np.radians(62 + 236 * (k * 0.7548776662 % 1.0))  # from the front, round the back
    t = k * 0.5698402910 % 1.0
    wide = 0.80 + 0.16 * t
    front = np.sqrt(np.clip(np.cos(phi), 0, 1))  # the front locks stay beside the face
    position = np.stack(
        [wide * np.sin(phi), 0.45 - (2.05 - 0.2 * front) * t, (0.90 + 0.12 * t) * np.cos(phi) - 0.05], 1
    )
    return _both_sides(
        position, unit(np.stack([np.sin(phi), 0.1 + 0 * phi, np.cos(phi)], 1)), 0.05 / np.sqrt(detail)
    )


def brim(detail: float) -> Piece:
    n = int(1300 * detail)
    k = np.arange(n)
    turn, r = 2 * np.pi * (k * 0.7548776662 % 1.0), 0.80 + 0.42 * np.sqrt(k * 0.5698402910 % 1.0)
    x, z = 0.92 * r * np.cos(turn), 1.08 * r * np.sin(turn) + 0.1
    position = np.stack([x, 0.42 + 0.16 * z + 0.10 * x**2, z], 1)
    return _both_sides(
        position, unit(np.stack([-0.2 * x, 1 + 0 * x, -0.16 + 0 * x], 1)), 0.042 / np.sqrt(detail)
    )


def lenses(detail: float, hollow: bool) -> Piece:
    """Two lenses (or only their rims), the bridge and the temples."""
    n = int((420 if hollow else 700) * detail)
    k = np.arange(n)
    turn, r = 2 * np.pi * (k * 0.7548776662 % 1.0), np.sqrt(k * 0.5698402910 % 1.0)
    r = 0.90 + 0.14 * r if hollow else 1.02 * r
    x, y = 0.315 + 0.215 * r * np.cos(turn), 0.01 + 0.165 * r * np.sin(turn) * (1 - 0.12 * np.sin(turn) * r)
    m = int(160 * detail)
    s = (np.arange(m) + 0.5) / m
    arm = np.stack([0.53 + 0.24 * s**0.7, 0.06 + 0.02 * np.sin(40 * s), 1.03 - 1.0 * s], 1)
    bridge = np.stack([0.1 * s, 0.06 + 0.015 * np.sin(40 * s), 1.15 + 0 * s], 1)
    lens = np.stack([x, y, 1.16 - 0.5 * x**2], 1)
    position = np.concatenate([lens, arm, bridge])
    normal = np.concatenate(
        [
            unit(np.stack([x, 0 * x, 1 + 0 * x], 1)),
            np.tile([1.0, 0, 0.2], (m, 1)),
            np.tile([0, 0, 1.0], (m, 1)),
        ]
    )
    mirror = np.array([-1, 1, 1])
    return (
        np.concatenate([position, position * mirror]),
        unit(np.concatenate([normal, normal * mirror])),
        np.full(2 * len(position), 0.024 / np.sqrt(detail)),
    )


def cowl_ears(detail: float) -> Piece:
    """Two pointed ears on top of a cowl."""
    n = int(420 * detail)
    k = np.arange(n)
    t, turn = 1 - np.sqrt(k * 0.5698402910 % 1.0), 2 * np.pi * (k * 0.7548776662 % 1.0)
    r = 0.17 * (1 - t) + 0.01
    position = np.stack(
        [0.50 + 0.04 * t + r * np.cos(turn), 0.82 + 0.72 * t, 0.12 - 0.1 * t + 1.1 * r * np.sin(turn)], 1
    )
    normal = unit(np.stack([np.cos(turn), 0.22 + 0 * t, np.sin(turn)], 1))
    mirror = np.array([-1, 1, 1])
    return (
        np.concatenate([position, position * mirror]),
        np.concatenate([normal, normal * mirror]),
        np.full(2 * n, 0.036 / np.sqrt(detail)),
    )
