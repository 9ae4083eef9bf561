"""A head becomes discs: identity, paint and extra pieces put together."""

from dataclasses import dataclass

import numpy as np

from scripts.workshop.heads import pieces
from scripts.workshop.heads.attributes import CLOTH, HAIR, STATUES, Head
from scripts.workshop.heads.costumes import PAINTERS
from scripts.workshop.heads.geometry import Array, load_template
from scripts.workshop.heads.paint import Canvas, paint_person

ALWAYS = {"eyes_open": 0.6, "eye_large": 0.7}  # eyes must survive 128 px
HULK = {"head_square": 0.9, "chin_wide": 0.9, "neck_wide": 0.9, "brow_angry": 1.0, "nose_wide": 0.6}


@dataclass
class Figure:
    """Discs of a bust: position [N, 3] (dm), unit normal [N, 3], sigma [N] (dm), albedo [N, 3], gloss [N]."""

    position: Array
    normal: Array
    sigma: Array
    albedo: Array
    gloss: Array


def build(head: Head, detail: float = 0.8) -> Figure:
    """Assemble a head; `detail` multiplies the number of discs (about 17k at 0.8)."""
    template = load_template(detail)
    weights = {**head.shape, **ALWAYS}
    if head.costume == "hulk":
        weights |= HULK
    if head.smile:
        weights["smile"] = 0.7
    position, normal = template.pose(weights)
    canvas = Canvas(template, np.random.default_rng(head.paint_seed))
    PAINTERS.get(head.costume, paint_person)(canvas, head)
    parts = [(position + canvas.lift[:, None] * normal, normal, template.sigma, canvas.albedo, canvas.gloss)]
    # Lifting tears the surface open, above all around the ears: fill it with discs below.
    behind_ear = (
        (np.abs(canvas.x) > 0.55) & (np.abs(canvas.y) < 0.45) & (canvas.z < 0.15) & (canvas.z > -0.45)
    )
    torn = ((canvas.lift > 0.02) & (canvas.scalp > 0.05)) | (behind_ear & (head.style != "bald"))
    depth = 0.3 * canvas.lift - 0.03
    under = (
        position + depth[:, None] * normal,
        normal,
        template.sigma * 1.2,
        canvas.albedo * 0.85,
        canvas.gloss,
    )
    parts.append(tuple(column[torn] for column in under))

    def add(piece: pieces.Piece, colour, gloss: float = 0.05) -> None:
        p, n, s = piece
        parts.append((p, n, s, np.broadcast_to(colour, p.shape), np.full(len(p), gloss)))

    hairy = head.costume in ("", "zombie", "joker", *STATUES)
    if head.style == "long" and hairy:
        p, n, s = pieces.curtain(detail)
        p = p * head_scale(position, template.canonical)
        noise = np.random.default_rng(head.paint_seed).normal(0, 1, len(p) // 2)
        phi = np.arctan2(p[:, 0], p[:, 2])
        strand = 0.92 + 0.07 * np.sin(26 * phi) + 0.05 * np.sin(57 * phi) + 0.05 * np.tile(noise, 2)
        colour = HAIR["green" if head.costume == "joker" else head.hair]
        tint = statue_tint(canvas) if head.costume in STATUES else np.asarray(colour)
        add((p, n, s), np.clip(tint * strand[:, None], 0, 1))
    if head.hat and not head.costume:
        add(pieces.brim(detail), np.array(CLOTH[head.hat]) * 0.92)
    if head.eyewear and not head.costume:
        dark = (0.03, 0.03, 0.04)
        add(pieces.lenses(detail, hollow=head.eyewear == "glasses"), dark, 0.15)
    if head.costume == "batman":
        add(pieces.cowl_ears(detail), (0.085, 0.085, 0.105), 0.14)
    if head.costume == "clown":
        tip = position[(np.abs(canvas.x) < 0.1) & (np.abs(canvas.y + 0.36) < 0.08)]
        centre = tip[tip[:, 2].argmax()] - (0, 0.0, 0.06)
        add(pieces.ball(centre, 0.17, detail), (0.86, 0.04, 0.06), 0.4)
    return Figure(*(np.concatenate(column) for column in zip(*parts)))


def head_scale(position: Array, canonical: Array) -> Array:
    """Extent [3] of this head relative to the reference head."""
    skull = (canonical[:, 1] > 0.0) & (np.abs(canonical[:, 0]) < 0.73)
    size = [np.array([np.abs(p[skull, 0]).max(), 1.0, -p[skull, 2].min()]) for p in (position, canonical)]
    return size[0] / size[1]


def statue_tint(canvas: Canvas) -> Array:
    """Mean colour of a statue, for its long hair."""
    return canvas.albedo.mean(0)
