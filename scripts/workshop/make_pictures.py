"""The pictures of README.md and docs/benchmarks.md from finished edits.

gs-ssd evaluate experiment=embedded_edits jobs=2
python scripts/workshop/make_pictures.py outputs/evaluate/embedded_edits
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gs_ssd.render import render
from gs_ssd.scene import load_gaussians
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.scene import Scene
from gs_ssd.scene.views import turntable
from gs_ssd.session.config import compose

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
README = ("spiderman", "batman", "clown", "joker", "marble", "skull", "mustache")
ALL = (
    *README[:5],
    "zombie",
    "skull",
    "gold",
    "mustache",
    "beard",
    "sunglasses",
    "red_hair",
    "hat",
    "long_hair",
)
GAP, TITLE = 4, 18  # pixels between pictures, height of a label
BACKGROUND = torch.tensor([0.6, 0.63, 0.67])


@torch.no_grad()
def views(gaussians: Gaussians, scene: Scene, azimuths: tuple[int, ...], size: int) -> list[Image.Image]:
    """Pictures from so many quarter turns of the front: 0 the front, 2 behind."""
    cameras = turntable(
        scene.frame, 4, size=size, elevation_degrees=5.0, front_azimuth_degrees=scene.front_azimuth_degrees,
        fov_degrees=40.0,
    )  # fmt: skip
    found = []
    for quarter in azimuths:
        rgb = render(gaussians, cameras[quarter], background=BACKGROUND).rgb[0].clamp(0, 1)
        found.append(Image.fromarray((rgb.numpy() * 255 + 0.5).astype(np.uint8)))
    return found


def sheet(rows: list[tuple[str, list[Image.Image]]], columns: int) -> Image.Image:
    """Labelled rows of pictures, `columns` of them side by side."""
    size, count = rows[0][1][0].width, len(rows[0][1])
    width, height = count * (size + GAP) + 3 * GAP, size + TITLE + GAP
    page = Image.new("RGB", (columns * width, -(-len(rows) // columns) * height), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(TITLE - 4)
    for number, (label, pictures) in enumerate(rows):
        x, y = GAP + number % columns * width, number // columns * height
        draw.text((x, y), label, "black", font)
        for k, picture in enumerate(pictures):
            page.paste(picture, (x + k * (size + GAP), y + TITLE))
    return page


def edits(folder: Path, name: str, prompts: tuple[str, ...], azimuths: tuple[int, ...], size: int):
    """(label, pictures) of a head and of its edits; an edit that was not made is left out."""
    scene = Scene.sample(name)
    rows = [(compose([f"scene={name}"]).prompt.source, views(scene.gaussians, scene, azimuths, size))]
    for prompt in prompts:
        file = folder / "runs" / "ssd" / "rate_1" / name / prompt / "edited.ply"
        if file.exists():
            words = compose([f"scene={name}", f"prompt={prompt}"]).prompt.target
            rows.append((words, views(load_gaussians(file), scene, azimuths, size)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of experiment=embedded_edits")
    parser.add_argument("--out", type=Path, default=PICTURES)
    args = parser.parse_args()
    sheet(edits(args.folder, "face", README, (0, 1, 2, 3), 192), 2).save(
        args.out / "readme.png", optimize=True
    )
    for name in ("face", "elder", "woman"):
        sheet(edits(args.folder, name, ALL, (0, 1, 2), 160), 3).save(
            args.out / f"edits_{name}.jpg", quality=88
        )
    print(f"wrote readme.png and edits_*.jpg to {args.out}")


if __name__ == "__main__":
    main()
