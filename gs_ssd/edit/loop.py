"""The edit: render, score, pull back into the Gaussians. A generator; the caller logs, saves and shows.

Per step: B views are sampled and rendered; the prior encodes them to latents z; the guidance turns z and the source
latents ẑ of the same views into the gradient G; ½‖z − sg(z − G)‖²/B sends it through the encoder and the rasterizer
to the parameters. It never reaches the prior's network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.text import TextCondition
from gs_ssd.diffusion.timesteps import TimestepSampler
from gs_ssd.edit.anchors import Anchors
from gs_ssd.edit.densify import Densifier
from gs_ssd.edit.trainable import SceneOptimizer
from gs_ssd.errors import NonFiniteError
from gs_ssd.guidance import Guidance, Step, inject_gradient
from gs_ssd.render import Render
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.gaussians import Gaussians


class Views(Protocol):
    """Where training cameras come from."""

    def sample(self, count: int, generator: torch.Generator) -> tuple[Cameras, Tensor | None]:
        """`count` cameras, and their indices [count] when they come from a fixed set."""
        ...


@dataclass
class StepReport:
    """What one step did.

    Attributes:
        step, t: step index and timestep.
        loss: the score surrogate ½‖G‖²/B.
        anchor_loss: value of the anchor losses.
        evaluations: noise predictions per view.
        num_gaussians: after the step.
        seconds: wall time by phase: "render", "encode", "prior", "backward" and "own" (everything else).
    """

    step: int
    t: int
    loss: float
    anchor_loss: float
    evaluations: int
    num_gaussians: int
    seconds: dict[str, float] = field(default_factory=dict)


class SourceViews:
    """Latents (and the image condition) of the unedited scene; cached by view index for a fixed view set."""

    def __init__(self, gaussians: Gaussians, renderer: Callable[..., Render], prior: DiffusionPrior) -> None:
        self.gaussians, self.renderer, self.prior = gaussians, renderer, prior
        self.cache: dict[int, tuple[Tensor, Tensor | None]] = {}

    @torch.no_grad()
    def __call__(self, cameras: Cameras, indices: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(ẑ [B, C, h, w], image condition [B, C, h, w] or None)."""
        if indices is None:
            return self._encode(cameras)
        keys = indices.tolist()
        for position, key in enumerate(keys):
            if key not in self.cache:
                self.cache[key] = self._encode(cameras[position])
        latents, conditions = zip(*(self.cache[key] for key in keys))
        return torch.cat(latents), torch.cat(conditions) if self.prior.takes_image else None

    def _encode(self, cameras: Cameras) -> tuple[Tensor, Tensor | None]:
        rgb = self.renderer(self.gaussians, cameras).rgb
        condition = self.prior.encode_condition(rgb) if self.prior.takes_image else None
        return self.prior.encode(rgb), condition


class Stopwatch:
    """Wall time by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self.last
        self.last = now


def edit(
    scene: SceneOptimizer,
    *,
    views: Views,
    renderer: Callable[..., Render],
    prior: DiffusionPrior,
    guidance: Guidance,
    text: dict[str, TextCondition] | Callable[[Cameras], dict[str, TextCondition]],
    timesteps: TimestepSampler,
    anchors: Anchors | None = None,
    densifier: Densifier | None = None,
    num_steps: int,
    views_per_step: int = 1,
    generator: torch.Generator,
) -> Iterator[StepReport]:
    """Edit `scene` in place and yield a report per step.

    Args:
        renderer: (gaussians, cameras) → Render.
        text: the edit's text conditions, or those of given cameras.
        generator: draws views, timesteps and noise, on the CPU, so a seed means the same on every device.

    Raises:
        NonFiniteError: names the tensor, step and timestep; the scene is as it was before that step.
    """
    source = SourceViews(scene.gaussians.clone(), renderer, prior)
    if anchors is not None:
        anchors.record(scene)
    for step in range(num_steps):
        watch = Stopwatch()
        cameras, indices = views.sample(views_per_step, generator)
        t = timesteps(step, num_steps, prior.schedule, generator)
        watch.lap("own")

        z_src, condition = source(cameras, indices)
        out = renderer(scene.gaussians, cameras)
        if densifier is not None:
            out.info["means2d"].retain_grad()
        watch.lap("render")
        z = prior.encode(out.rgb)
        watch.lap("encode")

        noise = torch.randn(z.shape, generator=generator).to(z)
        words = text(cameras) if callable(text) else text
        grad = guidance(prior, Step(z.detach(), z_src, noise, t, prior.schedule, words, condition, generator))
        if not bool(torch.isfinite(grad.sum())):
            raise NonFiniteError(f"the {guidance.name} gradient is not finite at step {step} (t = {t})")
        watch.lap("prior")

        loss = inject_gradient(z, grad)
        loss.backward()
        watch.lap("backward")

        anchor_loss = anchors.add_gradients(scene) if anchors is not None else 0.0
        scene.mask_gradients()
        broken = scene.non_finite_gradient()
        if broken is not None:
            raise NonFiniteError(f"the gradient of {broken} is not finite at step {step} (t = {t})")
        scene.set_progress(step / num_steps)
        scene.step()
        if densifier is not None:
            densifier.observe(out.info)
            if densifier.due(step):
                densifier.densify(scene)
                if anchors is not None:
                    anchors.advance()
                    anchors.record(scene)
        watch.lap("own")
        yield StepReport(
            step=step,
            t=t,
            loss=loss.item(),
            anchor_loss=anchor_loss,
            evaluations=guidance.evaluations(t, prior.schedule),
            num_gaussians=len(scene.params["means"]),
            seconds=watch.seconds,
        )
