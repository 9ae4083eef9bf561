"""Write `data/pie_bench`: a small benchmark in PIE-Bench's layout, of the sample scenes from the front and the side.

    python scripts/workshop/make_pie_bench.py [folder]

What may change is the head, each scene's `mask`; prompts are those of configs/prompt.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image

from gs_ssd.assets import CONFIGS, DATA
from gs_ssd.cli.app import answer
from gs_ssd.evaluation.pie_bench import CATEGORIES, SIDE, encode_mask, mark_difference, write_pie_bench
from gs_ssd.metrics.edit import OUTSIDE
from gs_ssd.render import render
from gs_ssd.render.coverage import coverage
from gs_ssd.results.video import to_uint8
from gs_ssd.scene import load_gaussians, orbit
from gs_ssd.scene.frame import find_frame

SCENES = ("face", "elder", "woman")
PROMPTS = {
    "change object": ("spiderman", "clown", "joker", "zombie"),
    "add object": ("mustache", "sunglasses"),
    "change content": ("old_man",),
    "change color": ("red_hair",),
    "change material": ("marble", "gold"),
}
SENSELESS = {("elder", "old_man"), ("woman", "old_man")}
AZIMUTHS = (0.0, 40.0)


def configuration(scene: str, prompt: str) -> DictConfig:
    """What `train.py` would edit."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", overrides=[f"scene={scene}", f"prompt={prompt}", "diffusion=embedded"])


@torch.no_grad()
def photographs(cfg: DictConfig) -> list[tuple[Image.Image, torch.Tensor]]:
    """The scene's picture and the mask [512, 512] bool of its head, from each azimuth."""
    gaussians = load_gaussians(cfg.scene.path)
    frame = find_frame(gaussians, up=cfg.scene.up, center=cfg.scene.center, radius=cfg.scene.radius)
    cameras = orbit(
        frame,
        len(AZIMUTHS),
        width=SIDE,
        height=SIDE,
        fov_degrees=40.0,
        elevation_degrees=5.0,
        azimuth_degrees=(AZIMUTHS[0], AZIMUTHS[-1]),
        distance=5.5,
        front_azimuth_degrees=cfg.scene.views.front_azimuth_degrees,
    )
    background = torch.tensor(list(cfg.scene.background))
    rgb = render(gaussians, cameras, background=background).rgb
    masks = coverage(gaussians, instantiate(cfg.scene.mask)(gaussians), cameras) > OUTSIDE
    return [(Image.fromarray(picture), mask) for picture, mask in zip(to_uint8(rgb), masks)]


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA / "pie_bench"
    shots = {scene: photographs(configuration(scene, "clown")) for scene in SCENES}
    entries, pictures = {}, {}
    for kind, prompts in PROMPTS.items():
        category, count = CATEGORIES.index(kind), 0
        for s, scene in enumerate(SCENES):
            for p, prompt in enumerate(prompts):
                if (scene, prompt) in SENSELESS:
                    continue
                key = f"{category}{count:011d}"
                count += 1
                image_path = f"{category}_{kind.replace(' ', '_')}/{key}.jpg"
                pictures[image_path], mask = shots[scene][(s + p) % len(AZIMUTHS)]
                sentences = configuration(scene, prompt).prompt
                source, target = mark_difference(sentences.source, sentences.target)
                entries[key] = {
                    "image_path": image_path,
                    "original_prompt": source,
                    "editing_prompt": target,
                    "editing_instruction": f"make it {sentences.target}",
                    "editing_type_id": str(category),
                    "blended_word": "",
                    "mask": encode_mask(mask),
                }
    write_pie_bench(folder, entries, pictures)
    print(f"{len(entries)} entries written to {folder}")


if __name__ == "__main__":
    sys.exit(answer(main))
