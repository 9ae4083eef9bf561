"""Costumes: one painter per costume, written to read from every side at 128 px."""

from dataclasses import replace

import numpy as np

from scripts.workshop.heads.attributes import HAIR, Head
from scripts.workshop.heads.geometry import Array, smoothstep
from scripts.workshop.heads.paint import (
    TEETH,
    Canvas,
    ellipse,
    inside,
    lip_colour,
    paint_brows,
    paint_clothes,
    paint_eyes,
    paint_hair,
    paint_person,
    paint_skin,
)


def _web(c: Canvas) -> Array:
    """Spokes and rings about the nose on the head, a net below it."""
    width = 0.017
    d = np.stack([c.x, c.y + 0.15, c.z - 0.05], 1)
    radius = np.linalg.norm(d, axis=1) + 1e-9
    polar, turn = np.arccos(np.clip(d[:, 2] / radius, -1, 1)), np.arctan2(d[:, 1], d[:, 0])
    spokes, step = 18, 0.235
    off = (turn / (2 * np.pi) * spokes + 0.5) % 1 - 0.5
    spoke = np.abs(off) * 2 * np.pi / spokes * np.sin(polar) * radius
    sag = polar + 0.05 * np.cos(2 * np.pi * off) * np.sin(polar)  # rings hang between the spokes
    ring = np.abs((sag / step + 0.5) % 1 - 0.5) * step * radius
    head = np.maximum(inside(spoke - width, 0.022), inside(ring - width, 0.022))
    turn_y = np.arctan2(c.x, c.z)
    post = np.abs((turn_y / (2 * np.pi) * 20 + 0.5) % 1 - 0.5) * 2 * np.pi / 20 * np.hypot(c.x, c.z)
    hoop = np.abs((c.y / 0.24 + 0.5) % 1 - 0.5) * 0.24
    body = np.maximum(inside(post - 0.02, 0.03), inside(hoop - 0.02, 0.03))
    below = smoothstep(-1.1, -1.25, c.y - 0.25 * smoothstep(0.3, 0.7, c.z) + 0.1)
    return head * (1 - below) + body * below


def spiderman(c: Canvas, head: Head) -> None:
    c.fill((0.80, 0.05, 0.07))
    c.fill((0.07, 0.02, 0.03), _web(c))
    side = inside(0.85 - c.ax, 0.04) * (c.y < -1.4)
    c.fill((0.10, 0.17, 0.58), side)
    u, v = c.ax - 0.34, c.y - 0.06
    long, short = 0.90 * u + 0.44 * v, -0.44 * u + 0.90 * v
    eye = ellipse(long, short - 0.25 * long**2 - 0.1 * long, 0.0, 0.0, 0.27, 0.15)
    face = c.front
    c.fill((0.03, 0.03, 0.03), inside(eye - 0.045) * face)
    c.fill((0.96, 0.96, 0.97), inside(eye) * face)
    c.gloss[:] = 0.10


def batman(c: Canvas, head: Head) -> None:
    skin = np.array(head.skin)
    paint_skin(c, replace(head, smile=False), skin, lip_colour(replace(head, woman=False)))
    opening = np.interp(c.ax, [0.0, 0.10, 0.16, 0.40, 0.52], [-0.50, -0.50, -0.36, -0.34, -0.75])
    bare = inside(c.y - opening) * inside(c.ax - 0.52, 0.03) * smoothstep(0.3, 0.45, c.z) * (c.y > -1.22)
    c.fill((0.085, 0.085, 0.105), 1 - bare)
    c.fill(
        (0.20, 0.20, 0.24),
        inside(np.abs(c.y - 0.23 - 0.25 * (c.ax - 0.3)) - 0.02, 0.03)
        * c.front
        * (c.ax < 0.5)
        * (c.ax > 0.07),
    )
    slit = ellipse(c.ax, c.y - 0.3 * (c.ax - 0.3), 0.315, 0.03, 0.15, 0.06)
    c.fill((0.95, 0.95, 0.96), inside(slit) * c.front)
    c.gloss[:] = 0.14


def clown(c: Canvas, head: Head) -> None:
    paint_skin(c, head, np.array(head.skin), lip_colour(head))
    white = (0.95, 0.94, 0.93)
    c.fill(white, smoothstep(0.15, 0.3, c.z) * (c.y > -1.17) * (1 - c.ear))
    blue = inside(ellipse(c.ax, c.y, 0.315, 0.10, 0.15, 0.27)) * c.front
    c.fill((0.12, 0.32, 0.85), blue)
    c.fill((0.92, 0.35, 0.40), inside(ellipse(c.ax, c.y, 0.50, -0.42, 0.13, 0.13), 0.05) * c.front)
    mouth = c.y + 0.68 - 0.9 * c.ax**2
    c.fill((0.80, 0.04, 0.07), inside(ellipse(c.x, mouth, 0, 0, 0.40, 0.17)) * c.front)
    c.fill((0.96, 0.95, 0.94), inside(ellipse(c.x, mouth, 0, 0.01, 0.26, 0.05)) * c.front)
    c.fill((0.20, 0.02, 0.04), inside(np.abs(mouth - 0.01) - 0.008, 0.012) * (c.ax < 0.26) * c.front)
    paint_eyes(c, head.eye)
    c.fill(
        (0.08, 0.08, 0.08),
        inside(np.abs(c.y - 0.42 + 2.5 * (c.ax - 0.31) ** 2) - 0.02)
        * inside(np.abs(c.ax - 0.31) - 0.12)
        * c.front,
    )
    c.fill((0.86, 0.04, 0.06), inside(ellipse(c.x, c.y, 0, -0.36, 0.19, 0.17)) * (c.z > 1.0))
    tuft = (
        c.scalp * smoothstep(0.34, 0.5, c.ax + 0.55 * smoothstep(0.1, -0.4, c.z)) * inside(c.y - 0.86, 0.06)
    )
    bald = c.scalp * (1 - tuft)
    c.fill(white, bald * smoothstep(-0.3, 0.2, c.z))
    curls = 0.05 * np.sin(22 * c.x) * np.sin(21 * c.y) * np.sin(20 * c.z)
    c.fill(c.streaks(HAIR[head.hair]) * (1 + 4 * curls)[:, None], tuft)
    c.lift += tuft * (0.30 + curls + 0.02 * c.noise) * smoothstep(-0.02, 0.3, c.above_hairline)
    paint_clothes(c, head)
    ruff = inside(np.abs(c.y + 1.46 + 0.1 * c.z) - 0.13, 0.03) * (c.ax < 0.95)
    fold = 0.5 + 0.5 * np.cos(26 * np.arctan2(c.x, c.z))
    c.fill(np.array((0.97, 0.96, 0.95)) * (0.78 + 0.22 * fold)[:, None], ruff)
    c.lift += ruff * (0.10 + 0.08 * fold)


def joker(c: Canvas, head: Head) -> None:
    white = np.array((0.92, 0.91, 0.90))
    paint_skin(c, replace(head, smile=False), white, np.array((0.72, 0.05, 0.08)))
    c.fill((0.13, 0.12, 0.14), inside(ellipse(c.ax, c.y, 0.32, 0.05, 0.19, 0.15), 0.05) * c.front)
    paint_eyes(c, (0.22, 0.42, 0.26))
    grin = np.abs(c.y + 0.67 - 1.1 * np.maximum(c.ax - 0.1, 0) ** 1.3) - 0.075 + 0.12 * c.ax
    c.fill((0.72, 0.04, 0.07), inside(grin) * (c.ax < 0.52) * c.front)
    c.fill(
        (0.15, 0.02, 0.03),
        inside(np.abs(c.y + 0.665 - 0.25 * c.ax**2) - 0.010, 0.012) * (c.ax < 0.25) * (c.z > 0.85),
    )
    paint_brows(c, (0.10, 0.30, 0.12), raised=0.03)
    paint_hair(c, replace(head, hair="green", beard=""))
    paint_clothes(c, replace(head, garment="jacket"), (0.36, 0.11, 0.46))


def _statue(c: Canvas, head: Head, base: tuple[float, float, float], relief: float) -> None:
    """The person in one material: the paint's brightness survives as faint relief."""
    paint_person(c, replace(head, eyewear="", hat=""))
    luminance = c.albedo @ np.array([0.3, 0.59, 0.11])
    skin = float(np.array(head.skin) @ [0.3, 0.59, 0.11])
    dark = np.clip(1 + relief * (luminance - skin), 0.72, 1.06)
    c.albedo = np.asarray(base) * dark[:, None]
    c.fill(np.asarray(base) * 0.93, c.eye)


def _ramp(c: Canvas, shadow, body, shine) -> None:
    """Studio reflections on metal by the height of the normal: dark horizon, bright sky, glints."""
    up = c.template.normal[:, 1] + 0.25 * c.template.normal[:, 2]
    wave = 0.5 + 0.5 * np.sin(5.5 * up + 2.2 * c.template.normal[:, 0])
    tone = np.clip(0.25 + 0.45 * wave + 0.25 * up, 0, 1)[:, None]
    colour = np.where(
        tone < 0.5,
        np.asarray(shadow) + (np.asarray(body) - shadow) * tone * 2,
        body + (np.asarray(shine) - body) * (tone - 0.5) * 2,
    )
    luminance = c.albedo.max(1, keepdims=True)
    c.albedo = colour * luminance
    c.gloss[:] = 0.55


def marble(c: Canvas, head: Head) -> None:
    _statue(c, head, (0.93, 0.92, 0.89), 0.28)
    k = c.rng.normal(0, 1, (3, 3)) * np.array([[2.2], [3.5], [1.6]])
    p = c.template.canonical
    vein = np.abs(np.sin(p @ k[0] + 1.6 * np.sin(p @ k[1]) + 1.1 * np.sin(p @ k[2])))
    c.fill(np.array((0.60, 0.60, 0.62)), 0.45 * inside(vein - 0.05, 0.1))
    c.gloss[:] = 0.12


def bronze(c: Canvas, head: Head) -> None:
    _statue(c, head, (1, 1, 1), 0.35)
    _ramp(c, (0.16, 0.09, 0.05), (0.47, 0.29, 0.14), (0.80, 0.56, 0.30))


def gold(c: Canvas, head: Head) -> None:
    _statue(c, head, (1, 1, 1), 0.35)
    _ramp(c, (0.50, 0.28, 0.04), (0.94, 0.68, 0.16), (1.0, 0.93, 0.55))


def zombie(c: Canvas, head: Head) -> None:
    skin = np.array((0.50, 0.60, 0.44))
    paint_skin(c, replace(head, smile=False), skin, np.array((0.32, 0.20, 0.22)))
    c.fill((0.20, 0.18, 0.18), 0.85 * inside(ellipse(c.ax, c.y, 0.315, 0.02, 0.20, 0.15), 0.06) * c.front)
    paint_eyes(c, (0.85, 0.80, 0.45), white=(0.90, 0.88, 0.72), lash=(0.15, 0.08, 0.08))
    paint_brows(c, (0.15, 0.14, 0.12))
    paint_hair(c, replace(head, hair="black" if head.hair not in HAIR else head.hair))
    for _ in range(9):
        centre = np.array([c.rng.uniform(-0.6, 0.6), c.rng.uniform(-1.1, 0.7), c.rng.uniform(-0.6, 1.1)])
        d = np.linalg.norm((c.template.canonical - centre) * (1, 1.2, 0.8), axis=1) - c.rng.uniform(0.1, 0.3)
        c.fill(
            (0.40, 0.05, 0.05) if c.rng.random() < 0.6 else (0.33, 0.42, 0.28),
            0.85 * inside(d, 0.05) * (1 - c.eye),
        )
    blood = inside(np.abs(c.x - 0.09) - 0.05, 0.03) * (c.y < -0.66) * (c.y > -1.05) * (c.z > 0.8)
    c.fill(
        (0.42, 0.03, 0.04),
        np.maximum(blood, inside(ellipse(c.x, c.y, 0, -0.67, 0.3, 0.12), 0.04) * (c.z > 0.8)),
    )
    paint_clothes(c, head, (0.30, 0.29, 0.26))


def skull(c: Canvas, head: Head) -> None:
    bone, dark = np.array((0.90, 0.87, 0.77)), (0.05, 0.04, 0.04)
    c.fill(bone * (1 + 0.015 * c.noise[:, None]))
    c.fill(bone * 0.62, inside(ellipse(c.ax, c.y, 0.56, -0.42, 0.16, 0.26), 0.08) * (c.z > 0.1))
    c.fill(bone * 0.7, inside(ellipse(c.ax, c.y, 0.66, 0.18, 0.12, 0.2), 0.1) * (c.z > 0.2))
    c.fill(dark, inside(ellipse(c.ax, c.y, 0.315, 0.03, 0.225, 0.19), 0.03) * c.front)
    nose = inside(np.maximum(-0.50 - c.y, c.y + 0.12 + 1.6 * c.ax), 0.03)
    c.fill(dark, nose * (c.z > 0.85))
    grin = inside(np.maximum(np.abs(c.y + 0.70 - 0.5 * c.ax**2) - 0.15, c.ax - 0.42), 0.02) * smoothstep(
        0.4, 0.6, c.z
    )
    c.fill((0.12, 0.09, 0.07), grin)
    tooth = inside(0.022 - np.abs((c.x / 0.105) % 1 - 0.5) * 0.105, 0.015) * inside(
        0.016 - np.abs(c.y + 0.70 - 0.5 * c.ax**2), 0.012
    )
    c.fill(TEETH, grin * tooth)
    crack = inside(np.abs(c.z - 0.1 + 0.06 * np.sin(18 * c.x)) - 0.012, 0.02) * (c.y > 0.45)
    c.fill(bone * 0.5, crack)
    c.fill((0.12, 0.11, 0.11), inside(c.y + 1.18 - 0.12 * smoothstep(0.2, 0.6, c.z)))
    c.fill(
        bone * 0.8,
        inside(c.ax - 0.16, 0.03) * (c.y < -1.15) * (c.y > -1.5) * (np.abs((c.y / 0.14) % 1 - 0.5) > 0.13),
    )
    c.fill((0.07, 0.07, 0.08), c.cloth_mask("shirt"))


def robot(c: Canvas, head: Head) -> None:
    c.fill((1, 1, 1))
    _ramp(c, (0.30, 0.33, 0.37), (0.62, 0.66, 0.71), (0.93, 0.95, 0.98))
    seam = (0.16, 0.17, 0.19)
    for height in (0.40, -0.50):
        c.fill(seam, inside(np.abs(c.y - height) - 0.018) * (c.y > -1.2))
    c.fill(seam, inside(np.abs(c.ax - 0.52) - 0.016) * c.front * (c.y > -1.15))
    c.fill(seam, inside(c.ax - 0.016) * (c.y > 0.4))
    c.fill((0.09, 0.09, 0.11), inside(np.maximum(np.abs(c.y - 0.03) - 0.13, c.ax - 0.52), 0.03) * c.front)
    glow = ellipse(c.ax, c.y, 0.30, 0.03, 0.10, 0.09)
    c.fill((0.95, 0.20, 0.10), inside(glow) * c.front)
    c.fill((1.0, 0.75, 0.55), inside(glow + 0.05, 0.04) * c.front)
    grille = inside(np.maximum(np.abs(c.y + 0.70) - 0.13, c.ax - 0.27)) * c.front
    c.fill((0.10, 0.10, 0.12), grille * (np.abs((c.x / 0.09) % 1 - 0.5) > 0.2))
    neck = (c.y < -1.2) * (1 - c.cloth_mask("shirt"))
    c.fill((0.20, 0.21, 0.23), neck * (np.abs((c.y / 0.12) % 1 - 0.5) > 0.18))
    c.fill(seam, inside(np.abs(c.y + 1.7) - 0.02) * c.cloth_mask("shirt"))


def ironman(c: Canvas, head: Head) -> None:
    c.fill((0.66, 0.03, 0.04))
    wide = np.interp(c.y, [-1.2, -0.95, -0.4, 0.1, 0.35, 0.62], [0.26, 0.36, 0.46, 0.52, 0.50, 0.38])
    plate = np.maximum(c.ax - wide, np.maximum(c.y - 0.62, -1.16 - c.y))
    face = smoothstep(0.35, 0.5, c.z)
    c.fill((0.93, 0.68, 0.20), inside(plate) * face)
    c.fill((0.10, 0.03, 0.02), inside(np.abs(plate) - 0.016) * face)
    c.fill((0.16, 0.09, 0.03), inside(np.abs(c.y + 0.72 + 0.15 * c.ax) - 0.016, 0.02) * (c.ax < 0.26) * face)
    c.fill(
        (0.45, 0.28, 0.06), inside(np.abs(c.ax - 0.30 - 0.25 * (c.y + 0.6)) - 0.014) * (c.y < -0.25) * face
    )
    eye = ellipse(c.ax, c.y - 0.12 * (c.ax - 0.3), 0.31, 0.03, 0.165, 0.062)
    c.fill((0.06, 0.03, 0.03), inside(eye - 0.035) * face)
    c.fill((0.85, 0.98, 1.0), inside(eye) * face)
    c.fill((0.93, 0.68, 0.20), c.ear)
    c.fill(
        (0.30, 0.02, 0.02),
        inside(np.abs(c.ax - 0.02 - 0.3 * (c.y > 0.4)) - 0.012) * (c.z < 0.35) * (c.y > -1.1),
    )
    c.fill((0.20, 0.20, 0.22), (c.y < -1.15) * (1 - c.cloth_mask("shirt")) * (c.z > -0.4))
    c.fill((0.93, 0.68, 0.20), inside(1.15 - c.ax, 0.04) * (c.y < -1.4))
    reactor = np.hypot(c.x, c.y + 2.25)
    c.fill((0.35, 0.30, 0.28), inside(reactor - 0.25) * (c.z > 0))
    c.fill((0.85, 0.98, 1.0), inside(reactor - 0.19) * (c.z > 0))
    c.gloss[:] = 0.45


def hulk(c: Canvas, head: Head) -> None:
    skin = np.array((0.30, 0.58, 0.20))
    paint_skin(c, replace(head, smile=False), skin, np.array((0.18, 0.38, 0.13)))
    paint_eyes(c, (0.30, 0.45, 0.15))
    paint_brows(c, (0.06, 0.07, 0.05))
    c.fill(skin * 0.62, inside(np.abs(c.ax - 0.05) - 0.014, 0.02) * (c.y > 0.12) * (c.y < 0.35) * c.front)
    paint_hair(c, replace(head, hair="black", beard=""))
    c.fill(skin * 0.85, inside(np.abs(c.ax - 0.02) - 0.02, 0.04) * (c.y < -1.9) * (c.z > 0))


PAINTERS = {
    "spiderman": spiderman, "batman": batman, "clown": clown, "joker": joker, "marble": marble, "bronze": bronze,
    "gold": gold, "zombie": zombie, "skull": skull, "robot": robot, "ironman": ironman, "hulk": hulk,
}  # fmt: skip
