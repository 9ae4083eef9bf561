"""Edit an image with a sentence.

    python scripts/edit_image.py image=photo.jpg prompt.source="a photo of a man" prompt.target="a photo of a clown"

Writes before.png, after.png, progress.png and run.json to outputs/images/<image>/<prompt>/<time>/.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # see train.py

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from gs_ssd.cli.app import (
    EXIT_NOT_FINITE,
    build,
    check_positive,
    check_whole_numbers,
    follow,
    launch,
    pick_device,
)
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.edit.image import LATENT_RATE, LatentImage, PixelImage, distil
from gs_ssd.errors import UserError
from gs_ssd.guidance import Guidance, encode_prompts
from gs_ssd.results.folder import clear, make_output_dir
from gs_ssd.results.image import Strip, manifest
from gs_ssd.results.image_files import load_image, save_image
from gs_ssd.results.manifest import sha256, write_json
from gs_ssd.session.prompts import check_prompts

PIXEL_RATE = 0.01


def build_image(
    cfg: DictConfig, prior: DiffusionPrior, rgb: torch.Tensor, z_src: torch.Tensor
) -> tuple[LatentImage | PixelImage, torch.optim.Optimizer]:
    """The image in the space that is asked for, at the source, with its optimiser."""
    if cfg.space == "latents":
        latents = LatentImage(prior, z_src)
        return latents, torch.optim.SGD([latents.parameter], lr=cfg.rate or LATENT_RATE)
    if cfg.space == "pixels":
        pixels = PixelImage(prior, rgb)
        return pixels, torch.optim.Adam([pixels.parameter], lr=cfg.rate or PIXEL_RATE)
    raise UserError(f"space={cfg.space} is none of latents, pixels")


def run(cfg: DictConfig) -> int:
    """One edit from file to files; returns the exit code."""
    device = pick_device(cfg.device)
    check_whole_numbers(cfg, "steps", "strip", *["size"] * (cfg.size is not None))
    check_whole_numbers(cfg, "seed", least=0)
    check_positive(cfg, *["rate"] * (cfg.rate is not None))
    if not cfg.image:
        raise UserError("no image given; name a PNG or JPEG file: image=photo.jpg")
    load_image(cfg.image)  # can it be read? Before a prior is loaded or downloaded
    torch.manual_seed(cfg.seed)
    generator = torch.Generator().manual_seed(cfg.seed)
    prior: DiffusionPrior = instantiate(cfg.diffusion, device=device)
    guidance: Guidance = build(cfg, "guidance")
    timesteps = build(cfg, "timesteps")
    guidance.prepare(prior)
    for warning in check_prompts(prior, source=cfg.prompt.source, target=cfg.prompt.target):
        print(f"warning: {warning}", file=sys.stderr)
    digest = sha256(Path(cfg.image).expanduser())
    rgb = load_image(cfg.image, factor=prior.vae_scale_factor, size=cfg.size).to(device)
    side = min(rgb.shape[1:3])
    if not prior.resolution / 2 <= side <= prior.resolution * 2:
        print(
            f"warning: the image's shorter side is {side} pixels, the {prior.name} prior knows images of "
            f"{prior.resolution}; size={prior.resolution} resizes it",
            file=sys.stderr,
        )
    with torch.no_grad():
        z_src = prior.encode(rgb)
    image, optimizer = build_image(cfg, prior, rgb, z_src)
    name = Path(cfg.image).expanduser().stem
    folder = make_output_dir(
        cfg.output_dir, scene=f"images/{name}", prompt=cfg.prompt.name, inputs=[cfg.image]
    )
    text = encode_prompts(
        prior,
        target=cfg.prompt.target,
        source=cfg.prompt.source,
        negative=cfg.prompt.negative if cfg.prompt.negative is not None else guidance.negative_prompt,
    )
    condition = prior.encode_condition(rgb) if prior.takes_image else None

    print(f"{name} ({rgb.shape[2]}x{rgb.shape[1]} pixels): {cfg.prompt.source!r} → {cfg.prompt.target!r}")
    start = image.picture()
    strip = Strip(image, num_steps=cfg.steps, count=cfg.strip)
    steps = distil(
        image,
        prior=prior,
        guidance=guidance,
        text=text,
        image_condition=condition,
        timesteps=timesteps,
        optimizer=optimizer,
        z_src=z_src,
        num_steps=cfg.steps,
        generator=generator,
    )
    started = time.perf_counter()
    outcome = follow(steps, total=cfg.steps, name=guidance.name, each=strip)
    seconds = time.perf_counter() - started

    after = image.picture()
    clear(folder)
    save_image(rgb[0], folder / "before.png")
    save_image(after[0], folder / "after.png")
    strip.save(f"{cfg.prompt.source}  >  {cfg.prompt.target}", folder / "progress.png")
    change = float((after - start).abs().mean())
    write_json(
        manifest(
            OmegaConf.to_container(cfg, resolve=True),
            device=device,
            steps_done=len(outcome.reports),
            seconds=seconds,
        )
        | {
            "input": {"path": str(cfg.image), "sha256": digest},
            "output": {"sha256": sha256(folder / "after.png")},
            "change": {"mean": change},
        },
        folder / "run.json",
    )
    print(
        f"edited   {len(outcome.reports)} of {cfg.steps} steps in {seconds:.0f} s; mean pixel change {change:.3f}\n"
        f"image    {folder / 'after.png'}\n"
        f"pictures {folder / 'before.png'}, {folder / 'progress.png'}\n"
        f"report   {folder / 'run.json'}"
    )
    if outcome.error is not None:
        print(f"error: {outcome.error}; results are those so far", file=sys.stderr)
        return EXIT_NOT_FINITE
    return 0


if __name__ == "__main__":
    sys.exit(launch(run, "edit_image"))
