"""Make an image from noise by score distillation, and show what its noise predictions consist of.

    python scripts/generate_image.py prompt.target="a photo of a clown" guidance=nfsd

Writes image.png, progress.png, decomposition.png and run.json to outputs/images/generated/<prompt>/<time>/.
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
from omegaconf import DictConfig, ListConfig, OmegaConf

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
from gs_ssd.edit.image import LatentImage, distil
from gs_ssd.errors import UserError
from gs_ssd.guidance import Guidance, encode_prompts
from gs_ssd.guidance.nfsd import NEGATIVE_PROMPT
from gs_ssd.results.folder import clear, make_output_dir
from gs_ssd.results.image import Strip, manifest, save_decomposition
from gs_ssd.results.image_files import save_image
from gs_ssd.results.manifest import sha256, write_json
from gs_ssd.session.prompts import check_target


def build_guidance(cfg: DictConfig, prior: DiffusionPrior) -> Guidance:
    """The guidance, ready to run; raises UserError for one that only edits."""
    guidance: Guidance = build(cfg, "guidance")
    guidance.prepare(prior)
    guidance.check_generation(prior)
    return guidance


def run(cfg: DictConfig) -> int:
    """One image from noise to files; returns the exit code."""
    device = pick_device(cfg.device)
    check_whole_numbers(cfg, "steps", "strip", *["size"] * (cfg.size is not None))
    check_whole_numbers(cfg, "seed", least=0)
    check_positive(cfg, "rate", "init")
    torch.manual_seed(cfg.seed)
    generator = torch.Generator().manual_seed(cfg.seed)
    prior: DiffusionPrior = instantiate(cfg.diffusion, device=device)
    guidance = build_guidance(cfg, prior)
    timesteps = build(cfg, "timesteps")
    for warning in check_target(prior, cfg.prompt.target):
        print(f"warning: {warning}", file=sys.stderr)
    size = cfg.size or prior.resolution
    if size % prior.vae_scale_factor:
        nearest = max(round(size / prior.vae_scale_factor), 1) * prior.vae_scale_factor
        raise UserError(f"size={size} is not divisible by {prior.vae_scale_factor}; try size={nearest}")
    if not isinstance(cfg.decomposition, ListConfig):
        raise UserError(
            f"decomposition={cfg.decomposition} must be a list of timesteps, such as [300], or []"
        )
    last = len(prior.schedule) - 1
    bad = [t for t in cfg.decomposition if not isinstance(t, int) or not 0 <= t <= last]
    if bad:
        raise UserError(f"decomposition={bad} must be timesteps, whole numbers from 0 to {last}")
    folder = make_output_dir(cfg.output_dir, scene="images/generated", prompt=cfg.prompt.name)
    negative = cfg.prompt.negative
    text = encode_prompts(
        prior,
        target=cfg.prompt.target,
        source="",
        # The decomposition shows δ_N for every method, so the negative prompt is NFSD's where none is given.
        negative=negative if negative is not None else NEGATIVE_PROMPT,
    )

    print(f"{cfg.prompt.target!r} ({size}x{size} pixels) from noise")
    with torch.no_grad():
        shape = prior.encode(torch.ones(1, size, size, 3, device=device)).shape
    image = LatentImage(prior, cfg.init * torch.randn(shape, generator=generator).to(device))
    strip = Strip(image, num_steps=cfg.steps, count=cfg.strip)
    optimizer = torch.optim.Adam([image.parameter], lr=cfg.rate)
    steps = distil(
        image,
        prior=prior,
        guidance=guidance,
        text=text,
        timesteps=timesteps,
        optimizer=optimizer,
        # At a constant rate the picture keeps the grain of its last few gradients.
        scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, cfg.steps),
        num_steps=cfg.steps,
        generator=generator,
    )
    started = time.perf_counter()
    outcome = follow(steps, total=cfg.steps, name=guidance.name, each=strip)
    seconds = time.perf_counter() - started

    clear(folder)
    save_image(image.picture()[0], folder / "image.png")
    strip.save(cfg.prompt.target, folder / "progress.png")
    if cfg.decomposition:
        save_decomposition(
            prior,
            image.latents().detach(),
            timesteps=list(cfg.decomposition),
            text=text,
            generator=generator,
            path=folder / "decomposition.png",
        )
    write_json(
        manifest(
            OmegaConf.to_container(cfg, resolve=True),
            device=device,
            steps_done=len(outcome.reports),
            seconds=seconds,
        )
        | {"output": {"sha256": sha256(folder / "image.png")}},
        folder / "run.json",
    )
    print(
        f"made     {len(outcome.reports)} of {cfg.steps} steps in {seconds:.0f} s\n"
        f"image    {folder / 'image.png'}\n"
        f"pictures {folder / 'progress.png'}"
        + f", {folder / 'decomposition.png'}"
        * bool(cfg.decomposition)
        + "\n"
        f"report   {folder / 'run.json'}"
    )
    if outcome.error is not None:
        print(f"error: {outcome.error}; results are those so far", file=sys.stderr)
        return EXIT_NOT_FINITE
    return 0


if __name__ == "__main__":
    sys.exit(launch(run, "generate_image"))
