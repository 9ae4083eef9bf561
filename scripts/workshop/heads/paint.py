"""Paint for the bust: skin, face, hair and clothes, as functions of the canonical place of every disc.

All masks are in [0, 1] with one entry per disc; `x`, `y`, `z` are canonical coordinates and `ax` is |x|.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scripts.workshop.heads.attributes import CLOTH, HAIR, Head
from scripts.workshop.heads.geometry import LABEL_BODY, Array, Template, smoothstep

TEETH = (0.93, 0.92, 0.88)


def inside(distance: Array, soft: float = 0.02) -> Array:
    """1 where the signed distance is negative, with a soft edge (dm)."""
    return np.clip(0.5 - distance / soft, 0, 1)


def ellipse(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float) -> Array:
    """Approximate signed distance (dm) to an ellipse."""
    return (np.hypot((x - cx) / rx, (y - cy) / ry) - 1) * min(rx, ry)


@dataclass
class Canvas:
    """Colours of the discs and how far each is lifted off the skin along its normal (dm)."""

    template: Template
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.x, self.y, self.z = self.template.canonical.T
        self.ax = np.abs(self.x)
        n = len(self.x)
        self.albedo, self.lift, self.gloss = np.zeros((n, 3)), np.zeros(n), np.full(n, 0.06)
        self.noise = self.rng.normal(0, 1, n)

    def fill(self, colour, mask: Array | float = 1.0) -> None:
        m = np.broadcast_to(np.clip(mask, 0, 1), self.x.shape)[:, None]
        self.albedo = self.albedo * (1 - m) + np.asarray(colour) * m

    @cached_property
    def front(self) -> Array:
        return smoothstep(0.35, 0.6, self.z)

    @cached_property
    def eye(self) -> Array:
        return (self.template.part != LABEL_BODY).astype(float)

    @cached_property
    def ear(self) -> Array:
        return inside(0.70 - self.ax) * (self.y < 0.2) * (self.y > -0.5) * (np.abs(self.z) < 0.25)

    @cached_property
    def lid(self) -> Array:
        """Rim of the eye opening."""
        d = ellipse(self.ax, self.y, 0.315, 0.025, 0.135, 0.07)
        return inside(np.abs(d) - 0.016, 0.02) * self.front * (1 - self.eye) * (self.z > 0.8)

    @cached_property
    def lips(self) -> Array:
        upper = -0.595 - 0.35 * self.ax**1.5 + 0.02 * np.exp(-((self.ax / 0.03) ** 2)) * -1
        d = np.maximum(self.y - upper, -0.775 + 0.35 * self.ax**1.5 - self.y)
        return inside(np.maximum(d, self.ax - 0.245)) * smoothstep(0.8, 0.95, self.z)

    def grin(self, rim: float) -> Array:
        """An open mouth whose corners are up, `rim` (dm) inside its lips."""
        half = 0.105 * (1 - (self.ax / 0.31) ** 2) - rim
        return inside(np.abs(self.y + 0.71 - 1.1 * self.ax**2) - half, 0.012) * smoothstep(0.75, 0.9, self.z)

    @cached_property
    def above_hairline(self) -> Array:
        """Height over the hairline (dm)."""
        z = np.array([-1.0, -0.5, -0.2, -0.14, 0.12, 0.24, 0.32, 0.55, 0.8, 1.3])
        line = np.array([-0.72, -0.62, -0.42, 0.14, 0.14, -0.22, 0.12, 0.40, 0.66, 0.74])
        return self.y - np.interp(self.z, z, line)

    @cached_property
    def scalp(self) -> Array:
        """Where hair grows."""
        return inside(0.02 * self.noise - self.above_hairline, 0.05) * (1 - self.ear * (self.y < 0.14))

    @cached_property
    def moustache(self) -> Array:
        centre = -0.515 - 0.55 * self.ax**2
        return (
            inside(np.abs(self.y - centre) - 0.07 + 0.08 * self.ax, 0.03)
            * inside(self.ax - 0.33, 0.05)
            * (self.z > 0.75)
        )

    @cached_property
    def chin_hair(self) -> Array:
        """Full beard: jaw, chin and cheeks up to the sideburns."""
        top = np.interp(
            self.ax, [0.0, 0.22, 0.30, 0.45, 0.6, 0.75], [-0.84, -0.84, -0.60, -0.50, -0.30, -0.12]
        )
        jaw = (
            inside(self.y - top + 0.02 * self.noise, 0.05) * smoothstep(0.05, 0.2, self.z) * (self.y > -1.28)
        )
        return jaw * (1 - self.lips) * (1 - smoothstep(-1.16, -1.28, self.y) * (self.z < 0.5))

    def cloth_mask(self, garment: str) -> Array:
        edge = {"shirt": -1.52, "jacket": -1.46, "sweater": -1.22}[garment]
        dip = 0.22 * smoothstep(0.0, 0.5, self.z) if garment != "sweater" else 0.0
        back = 0.12 * smoothstep(0.0, -0.6, self.z)
        return inside(self.y - (edge - dip + back), 0.03)

    def streaks(self, colour) -> Array:
        """Hair colour with strands: [N, 3]."""
        phi = np.arctan2(self.x, self.z - 0.1 * self.y)
        strand = 0.06 * np.sin(26 * phi + 3 * self.y) + 0.05 * np.sin(57 * phi - 5 * self.y)
        return np.clip(np.asarray(colour) * (0.92 + strand + 0.07 * self.noise)[:, None], 0, 1)


def lip_colour(head: Head) -> Array:
    skin = np.array(head.skin)
    return np.array((0.70, 0.22, 0.24)) if head.woman else skin * np.array((0.86, 0.67, 0.64))


def paint_skin(c: Canvas, head: Head, skin: Array, lip: Array) -> None:
    """Skin with blush, shaded sockets, lips and nostrils."""
    c.fill(skin * (1 + 0.012 * c.noise[:, None]))
    c.fill(skin * (1.0, 0.86, 0.84), 0.5 * c.front * inside(ellipse(c.ax, c.y, 0.42, -0.32, 0.2, 0.16), 0.2))
    c.fill(skin * (0.90, 0.80, 0.78), 0.45 * c.front * inside(ellipse(c.ax, c.y, 0.30, 0.05, 0.2, 0.12), 0.1))
    c.fill(skin * (0.96, 0.80, 0.76), 0.5 * c.ear)
    if head.smile:
        c.fill(lip, c.grin(0.0))
        c.fill(TEETH, c.grin(0.03))
    else:
        c.fill(lip, c.lips)
        line = inside(np.abs(c.y + 0.665 + 0.1 * c.ax**2) - 0.011, 0.012)
        c.fill(lip * 0.4, line * (c.ax < 0.24) * (c.z > 0.85))
    c.fill(skin * 0.35, inside(ellipse(c.ax, c.y, 0.075, -0.425, 0.04, 0.022)) * (c.z > 1.0))
    if head.old:
        c.fill(skin * 0.72, c.front * inside(np.abs(c.y - 0.44 - 0.1 * c.ax) - 0.010, 0.02) * (c.ax < 0.36))
        c.fill(skin * 0.72, c.front * inside(np.abs(c.y - 0.55 - 0.08 * c.ax) - 0.010, 0.02) * (c.ax < 0.32))
        fold = np.abs(c.ax - 0.19 - 0.45 * (-0.42 - c.y))
        c.fill(skin * 0.68, c.front * inside(fold - 0.014, 0.02) * (c.y < -0.4) * (c.y > -0.72))
        c.fill(
            skin * 0.70,
            c.front * inside(np.abs(ellipse(c.ax, c.y, 0.31, 0.02, 0.18, 0.13)) - 0.012, 0.02) * (c.y < 0),
        )


def paint_eyes(
    c: Canvas, iris, white=(0.95, 0.95, 0.94), lash=(0.10, 0.07, 0.06), liner: float = 0.9
) -> None:
    c.fill(white, c.eye)
    c.fill(iris, c.eye * inside(ellipse(c.ax, c.y, 0.315, 0.035, 0.068, 0.068)))
    c.fill((0.02, 0.02, 0.02), c.eye * inside(ellipse(c.ax, c.y, 0.315, 0.035, 0.032, 0.032)))
    c.fill(lash, liner * c.lid * np.where(c.y > 0.03, 1.0, 0.45))


def paint_brows(c: Canvas, colour, raised: float = 0.0) -> None:
    centre = 0.205 + raised + 0.05 * np.sin((c.ax - 0.1) * 7)
    mask = inside(np.abs(c.y - centre) - 0.034 + 0.02 * (c.ax > 0.4)) * inside(
        np.abs(c.ax - 0.31) - 0.19, 0.04
    )
    c.fill(np.asarray(colour) * 0.75, mask * c.front)


def paint_hair(c: Canvas, head: Head) -> None:
    """Hair on the scalp, moustache and beard; lifts them off the skin."""
    colour = np.array(HAIR[head.hair])
    if head.style != "bald":
        c.fill(c.streaks(colour), c.scalp)
        thick = {"short": 0.09, "long": 0.12}[head.style] * smoothstep(-0.7, 0.2, c.y) + 0.02
        c.lift += c.scalp * (thick + 0.008 * c.noise) * smoothstep(-0.02, 0.25, c.above_hairline)
    if head.beard:
        mask = c.moustache if head.beard == "mustache" else np.maximum(c.moustache, c.chin_hair)
        c.fill(c.streaks(colour * 0.85), mask)
        c.lift += 0.06 * mask


def paint_clothes(c: Canvas, head: Head, colour=None) -> None:
    cloth = np.array(CLOTH[head.cloth] if colour is None else colour)
    mask = c.cloth_mask(head.garment)
    c.fill(cloth * (1 + 0.02 * c.noise[:, None]), mask)
    c.lift += 0.05 * mask
    if head.garment == "jacket":
        opening = 0.10 + 0.30 * (c.y + 2.4)
        vee = inside(c.ax - opening, 0.03) * (c.z > 0) * mask
        c.fill((0.90, 0.90, 0.89), vee)
        c.fill(cloth * 0.5, inside(np.abs(c.ax - opening) - 0.02, 0.03) * (c.z > 0) * mask)
    if head.garment == "sweater":
        c.lift += 0.05 * mask * smoothstep(-1.5, -1.3, c.y)
        c.fill(cloth * 0.8, mask * inside(np.abs(c.y + 1.46) - 0.02, 0.03) * (c.ax < 0.75))


def paint_person(c: Canvas, head: Head) -> None:
    """An ordinary person."""
    skin = np.array(head.skin)
    paint_skin(c, head, skin, lip_colour(head))
    paint_eyes(c, head.eye, liner=0.95 if head.woman else 0.65)
    paint_brows(c, HAIR[head.hair])
    paint_hair(c, head)
    paint_clothes(c, head)
    if head.hat:
        colour = np.array(CLOTH[head.hat])
        crown = inside(0.44 + 0.16 * c.z - c.y, 0.03)
        c.fill(colour, crown)
        c.fill(colour * 0.45, inside(np.abs(c.y - 0.53 - 0.16 * c.z) - 0.055, 0.03))
        c.lift = c.lift * (1 - crown) + 0.15 * crown
