"""The numbers of a finished edit: random views of before and after, from the same cameras."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gs_ssd.checks import switch, whole
from gs_ssd.errors import UserError
from gs_ssd.metrics.clip import COMPAT_VIEWS, Clip
from gs_ssd.metrics.edit import PURE, edit_metrics
from gs_ssd.metrics.lpips import Lpips
from gs_ssd.metrics.view_consistency import warp_psnr
from gs_ssd.render import Render
from gs_ssd.render.coverage import coverage
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.parts import PARTS, load_parts
from gs_ssd.scene.scene import Scene
from gs_ssd.scene.views import training_views

NATIVE_WIDTH = 1920  # pixels, of the published script's pictures at most


@dataclass(frozen=True)
class Measures:
    """How an edit is measured.

    Attributes:
        clip: folder or hub name of the CLIP model that judges; None leaves its metrics out.
        views, size: how many random views, and their side in pixels.
        lpips: also LPIPS of the background; needs torchvision and its weights.
        compat: also the CLIP metrics with the published script's habits.
        candidates: the prompts that retrieval chooses among; without the target among them it is left out.
        keep: parts of a sample scene that the prompt must not change.
        seed: of the views.
    """

    clip: str | None = None
    views: int = 20
    size: int = 128
    lpips: bool = False
    compat: bool = False
    candidates: Sequence[str] = ()
    keep: Sequence[str] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        whole("metrics.views", self.views, least=1)
        whole("metrics.size", self.size, least=8, most=16384)
        switch("metrics.lpips", self.lpips)
        switch("metrics.compat", self.compat)

    def cameras(self, scene: Scene) -> Cameras:
        """Random views: of the user's cameras, in their order, or else from around the scene, by azimuth.

        The same seed draws the same views. Raises UserError where they are too few for `compat`.
        """
        generator = torch.Generator().manual_seed(self.seed)
        if scene.cameras is None:
            ranges = {**scene.views, "count": None}
            orbit = training_views(scene.frame, size=self.size, generator=generator, **ranges)
            views, _ = orbit.sample(self.views, generator)
        else:
            views = self._drawn(scene.cameras, generator).resized(self.size, self.size)
        if self.compat and len(views) < COMPAT_VIEWS:
            remedy = (
                f"set metrics.views={COMPAT_VIEWS}"
                if scene.cameras is None
                else "the scene has no more cameras, so set metrics.compat=false"
            )
            raise UserError(
                f"metrics.compat=true needs {COMPAT_VIEWS} views, here are {len(views)}; {remedy}"
            )
        return views

    def native_cameras(self, scene: Scene) -> Cameras:
        """The same views at the size of the user's cameras, at most 1,920 pixels wide: the published test renders'."""
        if scene.cameras is None:
            return self.cameras(scene)
        views = self._drawn(scene.cameras, torch.Generator().manual_seed(self.seed))
        factor = min(1.0, NATIVE_WIDTH / views.width)
        return views.resized(round(factor * views.width), round(factor * views.height))

    def _drawn(self, cameras: Cameras, generator: torch.Generator) -> Cameras:
        chosen = torch.randperm(len(cameras), generator=generator)[: self.views]
        return cameras[chosen.sort().values]


@torch.no_grad()
def measure(
    measures: Measures,
    *,
    scene: Scene,
    before: Gaussians,
    after: Gaussians,
    editable: Tensor,
    editable_after: Tensor,
    renderer: Callable[..., Render],
    source: str,
    target: str,
) -> dict[str, Any]:
    """The metrics of `after` against `before` (`gs_ssd.metrics.edit`), and the view consistency of both."""
    device = before.device
    cameras = measures.cameras(scene).to(device)
    views = range(len(cameras))
    alpha = None
    if not bool(editable.all()):
        subject = before[editable]
        alpha = torch.cat([renderer(subject, cameras[i]).alpha[..., 0].cpu() for i in views])
    kept = {}
    if scene.parts and measures.keep:
        parts = load_parts(scene.parts, count=len(before)).to(device)
        kept = {name: coverage(before, parts == PARTS.index(name), cameras).cpu() for name in measures.keep}
    images: dict[str, Tensor] = {}
    consistency: dict[str, float | None] = {}
    for name, gaussians, chosen in (("before", before, editable), ("after", after, editable_after)):
        renders = [renderer(gaussians, cameras[i], render_mode="RGB+ED") for i in views]
        images[name] = torch.cat([r.rgb for r in renders]).clamp(0, 1).cpu()
        depths = torch.cat([r.depth[..., 0] for r in renders if r.depth is not None]).cpu()
        surface = coverage(gaussians, chosen, cameras).cpu() > PURE
        value = warp_psnr(images[name], depths, cameras.viewmats.cpu(), cameras.Ks.cpu(), surface)
        consistency[name] = None if math.isnan(value) else min(value, 100.0)
    clip = _clip(measures.clip, device)
    compat = None
    if measures.compat and clip is not None:
        native = measures.native_cameras(scene).to(device)

        def published(gaussians: Gaussians) -> Tensor:
            return torch.cat([clip.squashed(renderer(gaussians, native[i]).rgb.clamp(0, 1)) for i in views])

        compat = published(before), published(after)
    metrics = edit_metrics(
        **images,
        editable_alpha=alpha,
        clip=clip,
        source=source,
        target=target,
        candidates=measures.candidates,
        kept=kept,
        compat=compat,
        lpips=_lpips(device) if measures.lpips else None,
    )
    if metrics["retrieval_top1"] is not None and target not in measures.candidates:
        metrics["retrieval_top1"] = None  # to choose between the source and the target alone is no test
    return metrics | {
        "view_consistency": consistency["after"],
        "view_consistency_before": consistency["before"],
    }


def _clip(path: str | None, device: torch.device) -> Clip | None:
    if path is None:
        return None
    try:
        return Clip.from_pretrained(path, device=device)
    except UserError as error:
        warnings.warn(f"no CLIP metrics: {error}", stacklevel=2)
        return None


def _lpips(device: torch.device) -> Lpips | None:
    try:
        return Lpips(device=device)
    except UserError as error:
        warnings.warn(str(error), stacklevel=2)
        return None
