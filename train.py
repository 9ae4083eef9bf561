"""Edit a 3D Gaussian Splatting scene with a sentence: `python train.py scene=face prompt=spiderman`.

`python train.py --help` shows every choice and setting.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

# Idle OpenMP threads spin for about 0.1 ms, then sleep. If they slept at once, every small operation would wait for
# them to wake up; at libgomp's default, two processes on the same cores starve each other.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from tqdm import tqdm

from gs_ssd.assets import CONFIGS
from gs_ssd.cli.app import (
    EXIT_NO_EDIT,
    EXIT_NOT_FINITE,
    StopOnInterrupt,
    build,
    check_whole_numbers,
    launch,
    pick_device,
)
from gs_ssd.cli.shorthands import options
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.text import TextCondition
from gs_ssd.edit.loop import StepReport, edit
from gs_ssd.edit.trainable import SceneOptimizer
from gs_ssd.edit.view_prompts import ViewPrompts
from gs_ssd.errors import NonFiniteError, UserError
from gs_ssd.guidance import Guidance, encode_prompts
from gs_ssd.metrics.clip import COMPAT_VIEWS, Clip
from gs_ssd.metrics.edit import PURE, edit_metrics
from gs_ssd.metrics.lpips import Lpips
from gs_ssd.metrics.view_consistency import warp_psnr
from gs_ssd.render import Render, render
from gs_ssd.render.coverage import coverage
from gs_ssd.results.folder import make_output_dir
from gs_ssd.results.manifest import environment, peak_memory_mb, sha256
from gs_ssd.results.scene import Videos, save_scene, write
from gs_ssd.scene import Cameras, Gaussians, SceneFrame, load_gaussians
from gs_ssd.scene.datasets import load_cameras, visible_cameras
from gs_ssd.scene.frame import locate
from gs_ssd.scene.parts import PARTS, load_parts
from gs_ssd.scene.views import camera_extent, training_views
from gs_ssd.session.prompts import check_prompts, check_target


def check_settings(cfg: DictConfig, prior: DiffusionPrior, guidance: Guidance) -> int:
    """The training resolution; raises UserError for settings that don't fit together."""
    check_whole_numbers(cfg, "steps", "views_per_step", "metrics.views", "metrics.size")
    size = cfg.resolution or prior.resolution
    if not isinstance(size, int) or size < prior.vae_scale_factor or size % prior.vae_scale_factor:
        factor = prior.vae_scale_factor
        nearest = max(round(float(size) / factor), 1) * factor if isinstance(size, int) else 512
        raise UserError(f"resolution={size} is not divisible by {factor}; try resolution={nearest}")
    if not isinstance(cfg.metrics.among, ListConfig | None):
        raise UserError(f"metrics.among={cfg.metrics.among} must be a list of prompts, such as [clown,joker]")
    for name in cfg.metrics.among or ():
        if name not in options("prompt"):
            raise UserError(
                f"metrics.among: no prompt is called {name!r}; there are: {', '.join(options('prompt'))}"
            )
    guidance.prepare(prior)
    return size


def prompt_targets(cfg: DictConfig) -> list[str]:
    """The targets of ready-made prompts for this scene: what retrieval chooses among."""
    targets = []
    for name in cfg.metrics.among or options("prompt"):
        prompt = OmegaConf.load(CONFIGS / "prompt" / f"{name}.yaml")
        if not OmegaConf.is_missing(prompt, "target"):
            targets.append(OmegaConf.create({"scene": cfg.scene, "prompt": prompt}).prompt.target)
    return targets


@torch.no_grad()
def measure(
    cfg: DictConfig,
    *,
    before: Gaussians,
    after: Gaussians,
    editable: torch.Tensor,
    editable_after: torch.Tensor,
    renderer: Callable[..., Render],
    cameras: Cameras,
    device: torch.device,
) -> dict[str, Any]:
    """The run's metrics on the views of `cameras`, with the judge that `metrics.clip` names."""
    clip = None
    if cfg.metrics.clip is not None:
        try:
            clip = Clip.from_pretrained(cfg.metrics.clip, device=device)
        except UserError as error:
            print(f"warning: no CLIP metrics: {error}", file=sys.stderr)
    lpips = None
    if cfg.metrics.lpips:
        try:
            lpips = Lpips(device=device)
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr)
    views = range(len(cameras))
    alpha = None
    if not bool(editable.all()):
        subject = before[editable]
        alpha = torch.cat([renderer(subject, cameras[i]).alpha[..., 0].cpu() for i in views])
    kept = {}
    if cfg.scene.get("parts") and cfg.prompt.get("keep"):
        parts = load_parts(cfg.scene.parts, count=len(before)).to(device)
        kept = {name: coverage(before, parts == PARTS.index(name), cameras).cpu() for name in cfg.prompt.keep}
    images: dict[str, torch.Tensor] = {}
    consistency: dict[str, float | None] = {}
    for name, scene, chosen in (("before", before, editable), ("after", after, editable_after)):
        renders = [renderer(scene, cameras[i], render_mode="RGB+ED") for i in views]
        images[name] = torch.cat([r.rgb for r in renders]).clamp(0, 1).cpu()
        depths = torch.cat([r.depth[..., 0] for r in renders if r.depth is not None]).cpu()
        surface = coverage(scene, chosen, cameras).cpu() > PURE
        value = warp_psnr(images[name], depths, cameras.viewmats.cpu(), cameras.Ks.cpu(), surface)
        consistency[name] = None if math.isnan(value) else min(value, 100.0)
    metrics = edit_metrics(
        **images,
        editable_alpha=alpha,
        clip=clip,
        source=cfg.prompt.source or "",
        target=cfg.prompt.target,
        candidates=prompt_targets(cfg),
        kept=kept,
        compat=cfg.metrics.compat,
        lpips=lpips,
    )
    return metrics | {
        "view_consistency": consistency["after"],
        "view_consistency_before": consistency["before"],
    }


def metric_views(cfg: DictConfig, frame: SceneFrame, cameras: Cameras | None) -> Cameras:
    """`metrics.views` random views: of the user's cameras, in their order, or else from around the scene, by azimuth.

    The same seed draws the same views. Raises UserError where they are too few for `metrics.compat`.
    """
    generator = torch.Generator().manual_seed(cfg.seed)
    size = cfg.metrics.size
    if cameras is None:
        orbit = training_views(frame, size=size, generator=generator, **{**cfg.scene.views, "count": None})
        views, _ = orbit.sample(cfg.metrics.views, generator)
    else:
        drawn = torch.randperm(len(cameras), generator=generator)[: cfg.metrics.views]
        views = cameras[drawn.sort().values].resized(size, size)
    if cfg.metrics.compat and len(views) < COMPAT_VIEWS:
        remedy = (
            f"set metrics.views={COMPAT_VIEWS}"
            if cameras is None
            else "the scene has no more cameras, so set metrics.compat=false"
        )
        raise UserError(f"metrics.compat=true needs {COMPAT_VIEWS} views, here are {len(views)}; {remedy}")
    return views


def run(cfg: DictConfig) -> int:
    """One edit from files to files; returns the exit code."""
    started = time.perf_counter()
    device = pick_device(cfg.device)
    torch.manual_seed(cfg.seed)
    generator = torch.Generator().manual_seed(cfg.seed)

    generating = cfg.scene.path is None
    before = build(cfg, "scene.start", generator=generator) if generating else load_gaussians(cfg.scene.path)
    cameras = None
    if source := cfg.scene.cameras:
        cameras = visible_cameras(load_cameras(source), before, source=source)
    prior: DiffusionPrior = instantiate(cfg.diffusion, device=device)
    guidance: Guidance = build(cfg, "guidance")
    timesteps, anchors, densifier = (build(cfg, group) for group in ("timesteps", "anchors", "densify"))
    rates = build(cfg, "optimizer.rates")
    size = check_settings(cfg, prior, guidance)
    if generating:
        guidance.check_generation(prior)
        warnings = check_target(prior, cfg.prompt.target)
    else:
        warnings = check_prompts(prior, source=cfg.prompt.source, target=cfg.prompt.target)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    editable = instantiate(cfg.scene.mask)(before)
    frame = locate(before, up=cfg.scene.up, center=cfg.scene.center, radius=cfg.scene.radius, cameras=cameras)
    views = training_views(frame, size=size, generator=generator, cameras=cameras, **cfg.scene.views)
    judged_views = metric_views(cfg, frame, cameras)
    inputs = (cfg.scene.path, cfg.scene.cameras)
    folder = make_output_dir(cfg.output_dir, scene=cfg.scene.name, prompt=cfg.prompt.name, inputs=inputs)
    videos = Videos.around(
        frame,
        **cfg.render,
        front_azimuth_degrees=cfg.scene.views.front_azimuth_degrees,
        fov_degrees=sum(cfg.scene.views.fov_degrees) / 2,
    ).to(device)
    digest = None if generating else sha256(cfg.scene.path)

    background = torch.tensor(list(cfg.scene.background), device=device)
    renderer = partial(render, background=background)
    before = before.to(device)
    scene = SceneOptimizer(
        before, editable=editable, rates=rates, extent=camera_extent(views, frame), betas=cfg.optimizer.betas
    )
    prompts = {
        "target": cfg.prompt.target,
        "source": cfg.prompt.source or "",
        "negative": cfg.prompt.negative if cfg.prompt.negative is not None else guidance.negative_prompt,
    }
    text: dict[str, TextCondition] | ViewPrompts
    if words := cfg.scene.get("view_words"):
        front = cfg.scene.views.front_azimuth_degrees
        text = ViewPrompts(prior, **prompts, words=words, frame=frame, front_azimuth_degrees=front)
    else:
        text = encode_prompts(prior, **prompts)
    set_up = time.perf_counter() - started

    origin = "a random ball" if generating else cfg.prompt.source
    print(f"{cfg.scene.name} ({len(before):,} Gaussians): {origin!r} → {cfg.prompt.target!r}")
    steps = edit(
        scene,
        views=views,
        renderer=renderer,
        prior=prior,
        guidance=guidance,
        text=text,
        timesteps=timesteps,
        anchors=anchors,
        densifier=densifier,
        num_steps=cfg.steps,
        views_per_step=cfg.views_per_step,
        generator=generator,
    )
    reports: list[StepReport] = []
    not_finite = None
    with StopOnInterrupt() as stop, tqdm(total=cfg.steps, desc=guidance.name, unit="step") as bar:
        try:
            for report in steps:
                reports.append(report)
                bar.update()
                if report.step % 10 == 0:
                    bar.set_postfix(t=report.t, loss=f"{report.loss:.3g}", gaussians=report.num_gaussians)
                if stop.requested:
                    break
        except NonFiniteError as error:
            not_finite = error
    edited_at = time.perf_counter()

    after = scene.gaussians.clone()
    save_scene(folder, after)
    seconds = edited_at - started - set_up
    metrics = measure(
        cfg,
        before=before,
        after=after,
        editable=editable.to(device),
        editable_after=scene.params["editable"],
        renderer=renderer,
        cameras=judged_views.to(device),
        device=device,
    )
    per_step = seconds / max(len(reports), 1)
    metrics |= {
        "seconds": seconds,
        "seconds_per_step": per_step,
        "evaluations_per_step": sum(r.evaluations for r in reports) / max(len(reports), 1),
    }
    finished = time.perf_counter()
    phases = (
        {name: sum(r.seconds.get(name, 0.0) for r in reports) for name in reports[0].seconds}
        if reports
        else {}
    )
    manifest = {
        "command": sys.argv,
        "config": OmegaConf.to_container(cfg, resolve=True),
        "environment": environment() | {"device": str(device)},
        "input": {"path": cfg.scene.path, "sha256": digest, "gaussians": len(before)},
        "steps_done": len(reports),
        "seconds": {"set_up": set_up, "edit": seconds, "results": finished - edited_at},
        "seconds_by_phase": phases,
        "peak_memory_mb": peak_memory_mb(),
    }
    change = write(
        folder,
        before=before,
        after=after,
        renderer=renderer,
        videos=videos,
        reports=reports,
        labels=(origin, cfg.prompt.target),
        metrics=metrics,
        manifest=manifest,
    )
    judged = "".join(
        f", {label} {metrics[name]:.2f}"
        for name, label in (("retrieval_top1", "retrieval"), ("clip_direction", "direction"))
        if metrics[name] is not None
    )
    print(
        f"edited   {len(reports)} of {cfg.steps} steps in {seconds:.0f} s "
        f"({1000 * per_step:.0f} ms per step), {len(after):,} Gaussians\n"
        f"scene    {folder / 'edited.ply'}\n"
        f"pictures {folder / 'before_after.png'}, {folder / 'loss.png'}\n"
        f"videos   {folder / 'turntable.mp4'}, {folder / 'before_after.mp4'}\n"
        f"report   {folder / 'report.html'}, {folder / 'run.json'}: mean pixel change {change.mean:.3f}{judged}"
    )
    if not_finite is not None:
        print(
            f"error: {not_finite}; stopped before it reached the scene, results are those so far",
            file=sys.stderr,
        )
        return EXIT_NOT_FINITE
    if cfg.no_edit_guard and not change.visible and not stop.requested:
        print(
            f"error: the edit changed next to nothing: {change}; raise steps or the learning rates, or use a prompt "
            "and a prior that know the subject (no_edit_guard=false turns this check off)",
            file=sys.stderr,
        )
        return EXIT_NO_EDIT
    return 0


def main() -> int:
    return launch(run, "train")


if __name__ == "__main__":
    sys.exit(main())
