"""Write the sample scenes `data/scenes/{face,elder,woman}.ply`: a bust of flat Gaussians in a plain studio.

    python scripts/workshop/make_face_scene.py

Files follow the layout of the 3D Gaussian Splatting reference code at spherical-harmonics degree 0 (binary
little-endian float32: position, zero normals, f_dc, opacity logit, log scales, quaternion w x y z). One unit is a
decimetre; x to the figure's left, y down, the face looks along -z.

Beside each scene lies `<name>_parts.npy`, which part of the figure every Gaussian shows (`gs_ssd/scene/parts.py`).

The head of every scene lies inside the sphere `HEAD_CENTRE`, `HEAD_RADIUS`; shoulders, clothes and studio lie
outside. Cameras: `scripts.workshop.heads.render.FRAMING` (40 degrees, 5.5 units from the target).
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from plyfile import PlyData, PlyElement

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gs_ssd.scene.parts import PARTS
from scripts.workshop.heads.attributes import Head
from scripts.workshop.heads.figure import build
from scripts.workshop.heads.geometry import Array, unit
from scripts.workshop.heads.render import FRAMING, Light, orbit, shade, splat

SH_C0 = 0.28209479177387814
OPACITY, THICKNESS = 0.95, 0.25  # THICKNESS: extent along the normal, in disc radii
TO_FILE = np.array([1.0, -1.0, -1.0])  # half a turn about x: y up, face +z -> y down, face -z
HEAD_CENTRE, HEAD_RADIUS = (0.0, -0.05, -0.10), 1.55  # file coordinates
WALL_RADIUS, WALL_COUNT = 14.0, 4000
WALL_COLOUR = (0.60, 0.63, 0.67)
LIGHT = Light(unit(np.array([0.45, 0.55, 0.80])), key=0.50, ambient=0.58)

SCENES = {
    "face": Head(
        hair="brown",
        skin=(0.87, 0.67, 0.55),
        eye=(0.22, 0.36, 0.55),
        cloth="blue",
        garment="shirt",
        shape={"african-male-young": 0.1, "asian-male-young": 0.05, "head_square": 0.4, "chin_wide": 0.35,
               "chin_out": 0.2, "cheek_bones": 0.2, "nose_long": 0.15, "neck_wide": 0.35, "lips_lower": -0.3,
               "lips_upper": -0.3},
    ),
    "elder": Head(
        old=True,
        hair="grey",
        skin=(0.84, 0.65, 0.55),
        cloth="brown",
        garment="jacket",
        shape={"caucasian-male-old": 0.95, "nose_long": 0.3, "nose_wide": 0.2, "ear_large": 0.4, "head_oval": 0.2},
        paint_seed=3,
    ),
    "woman": Head(
        woman=True,
        hair="brown",
        style="long",
        skin=(0.90, 0.70, 0.58),
        eye=(0.24, 0.40, 0.28),
        cloth="green",
        garment="shirt",
        shape={"caucasian-female-young": 0.8, "asian-female-young": 0.2, "head_oval": 0.3, "nose_wide": -0.3,
               "eye_large": 0.0, "cheek_bones": 0.3},
        paint_seed=5,
    ),
}  # fmt: skip


def studio() -> tuple[Array, Array, Array, Array]:
    """A closed round wall: position, inward normal, sigma, colour; graded from a darker top to a lighter floor."""
    k = np.arange(WALL_COUNT) + 0.5
    y, turn = 1 - 2 * k / WALL_COUNT, np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - y * y)
    outward = np.stack([r * np.cos(turn), y, r * np.sin(turn)], 1)
    sigma = np.full(WALL_COUNT, 0.85 * WALL_RADIUS * np.sqrt(4 * np.pi / WALL_COUNT))
    colour = np.array(WALL_COLOUR) * (1 - 0.22 * np.clip(2.0 * y, -1, 1))[:, None]
    return np.array(FRAMING.target) + WALL_RADIUS * outward, -outward, sigma, np.clip(colour, 0, 1)


def quaternions(normal: Array) -> Array:
    """Rotations [N, 4] (w, x, y, z) that take the z axis to `normal` [N, 3]."""
    q = np.stack([1 + normal[:, 2], -normal[:, 1], normal[:, 0], np.zeros(len(normal))], 1)
    q[normal[:, 2] < -0.9999] = (0.0, 1.0, 0.0, 0.0)  # half a turn: the shortest arc is undefined there
    return unit(q)


def write_ply(path: Path, position: Array, normal: Array, sigma: Array, colour: Array) -> None:
    """Store discs (y up) as Gaussians (y down)."""
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"]
    names += ["scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    n = len(position)
    logit = np.full((n, 1), np.log(OPACITY / (1 - OPACITY)))
    log_scale = np.log(sigma[:, None] * np.array([1.0, 1.0, THICKNESS]))
    columns = [
        position * TO_FILE,
        np.zeros((n, 3)),
        (colour - 0.5) / SH_C0,
        logit,
        log_scale,
        quaternions(normal * TO_FILE),
    ]
    table = np.concatenate(columns, 1).astype("<f4")
    vertex = np.rec.fromarrays(table.T, names=names, formats=["<f4"] * len(names))
    PlyData([PlyElement.describe(vertex, "vertex")], byte_order="<").write(path)


def discs(head: Head, detail: float) -> tuple[Array, Array, Array, Array]:
    """The lit bust and the studio: position, normal, sigma, colour."""
    figure = build(head, detail)
    colour = shade(figure.albedo, figure.normal, figure.gloss, LIGHT)
    bust = (figure.position, figure.normal, figure.sigma, colour)
    return tuple(np.concatenate(pair) for pair in zip(bust, studio()))


def parts_of(head: Head, detail: float, count: int) -> Array:
    """Labels [count] of a scene's Gaussians: a part is what changes colour in the twin that differs in it alone."""
    albedo = build(head, detail).albedo
    labels = np.full(count, PARTS.index("studio"), dtype=np.uint8)
    figure = labels[: len(albedo)]
    figure[:] = PARTS.index("skin")
    for part, change in (
        ("hair", {"hair": "blue"}),
        ("moustache", {"beard": "mustache", "hair": "blue"}),
        ("clothes", {"cloth": "red"}),
    ):
        twin = np.abs(build(replace(head, **change), detail).albedo - albedo).max(1) > 0.02
        figure[twin & (figure == PARTS.index("skin"))] = PARTS.index(part)
    return labels


def preview(parts: tuple[Array, Array, Array, Array], path: Path, size: int = 192) -> None:
    black = np.zeros((size, size, 3))
    tiles = [splat(orbit(yaw, 5, size), *parts, black) for yaw in (0, 40, 90, 180, -90, -40)]
    Image.fromarray((np.concatenate(tiles, 1).clip(0, 1) * 255 + 0.5).astype(np.uint8)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("data/scenes"))
    parser.add_argument("--detail", type=float, default=1.1, help="density of the bust's discs")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, head in SCENES.items():
        parts = discs(head, args.detail)
        write_ply(args.out / f"{name}.ply", *parts)
        np.save(args.out / f"{name}_parts.npy", parts_of(head, args.detail, len(parts[0])))
        preview(parts, args.out / f"{name}.png")
        inside = np.linalg.norm(parts[0] * TO_FILE - HEAD_CENTRE, axis=1) < HEAD_RADIUS
        print(f"{name}: {len(inside)} Gaussians, {inside.sum()} in the head")


if __name__ == "__main__":
    main()
