"""What came of an edit, and the files it leaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from gs_ssd.edit.loop import StepReport, totals
from gs_ssd.render import Render
from gs_ssd.results.change import Change
from gs_ssd.results.earlier import earlier_edits
from gs_ssd.results.folder import make_output_dir
from gs_ssd.results.hold import Hold
from gs_ssd.results.manifest import environment, peak_memory_mb
from gs_ssd.results.scene import Videos, write
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.parts import load_parts
from gs_ssd.scene.scene import Scene
from gs_ssd.session.measure import Measures, measure
from gs_ssd.session.prompts import Prompts


@dataclass
class EditResult:
    """Before and after.

    Attributes:
        before, after: the Gaussians; `editable`, `editable_after` [N] say which the edit could touch.
        origin: [N after] the index in `before` that each one is, or descends from.
        reports: of the steps that were done, of `num_steps`.
        asked: noise predictions per view that were made before the first step (see `edit.hull`).
        prior: what the prior says of itself, for run.json.
        metrics: on random views (`gs_ssd.session.measure`), computed when first asked for.
    """

    scene: Scene
    prompts: Prompts
    before: Gaussians
    after: Gaussians
    editable: Tensor
    editable_after: Tensor
    origin: Tensor
    reports: list[StepReport]
    num_steps: int
    renderer: Callable[..., Render]
    measures: Measures
    set_up_seconds: float = 0.0
    asked: int = 0
    prior: Mapping[str, Any] = field(default_factory=dict)
    change: Change | None = field(default=None)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        measured = measure(
            self.measures,
            scene=self.scene,
            before=self.before,
            after=self.after,
            editable=self.editable,
            editable_after=self.editable_after,
            renderer=self.renderer,
            source=self.prompts.source or "",
            target=self.prompts.target,
        )
        steps = max(len(self.reports), 1)
        return measured | {
            "seconds": self.seconds,
            "seconds_per_step": self.seconds / steps,
            "evaluations": self.asked + sum(r.evaluations for r in self.reports),
            "evaluations_per_step": sum(r.evaluations for r in self.reports) / steps,
        }

    @property
    def parts(self) -> Tensor | None:
        """[N after] part labels of the edited scene; None where the source has none."""
        if self.scene.parts is None:
            return None
        return load_parts(self.scene.parts, count=len(self.before))[self.origin.cpu()]

    @property
    def seconds(self) -> float:
        """Of the steps."""
        return sum(sum(report.seconds.values()) for report in self.reports)

    @property
    def origin_words(self) -> str:
        """What the edit started from, in words."""
        return "a random ball" if self.prompts.source is None else self.prompts.source

    def videos(self, **settings: Any) -> Videos:
        """Turns around the scene from its front; `settings` as `Videos.around` takes them."""
        return turns(self.scene, **settings)

    def save(
        self,
        folder: str | os.PathLike,
        *,
        videos: Videos | None = None,
        command: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write edited.ply, videos, pictures, the report, metrics.json and run.json; returns the folder.

        Args:
            videos: how the result is shown.
            command, config: what was typed and what it meant, for run.json.

        Raises UserError for a folder that can't be written, holds the source scene, or is written by another process.
        """
        folder = make_output_dir(folder, scene=self.scene.name, prompt="", inputs=[self.scene.source])
        with Hold() as hold:
            hold.take(folder)
            self.change = write(
                folder,
                before=self.before,
                after=self.after,
                renderer=self.renderer,
                videos=(videos or self.videos()).to(self.before.device),
                reports=self.reports,
                labels=(self.origin_words, self.prompts.target),
                cameras=self.scene.cameras,
                origin=self.origin,
                parts=self.parts,
                metrics=lambda: self.metrics,
                manifest=lambda: self.manifest(command, config),
            )
        return folder

    def manifest(
        self, command: Sequence[str] = (), config: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """What run.json says, besides the digest of the result and the change."""
        return {
            "command": list(command),
            "config": config,
            "environment": environment() | {"device": str(self.before.device)},
            "prior": dict(self.prior),
            "input": {
                "path": None if self.scene.source is None else str(self.scene.source),
                "sha256": self.scene.digest,
                "gaussians": len(self.before),
            },
            "scene": self.scene.settings(),
            "prompts": asdict(self.prompts),
            "earlier_edits": earlier_edits(self.scene.source, self.scene.digest),
            "steps_done": len(self.reports),
            "seconds": {"set_up": self.set_up_seconds, "edit": self.seconds},
            "seconds_by_phase": totals(self.reports),
            "peak_memory_mb": peak_memory_mb(),
        }


def turns(scene: Scene, **settings: Any) -> Videos:
    """Turns around a scene from its front; `settings` as `Videos.around` takes them."""
    low, high = scene.views.get("fov_degrees", (40.0, 50.0))
    view = {"front_azimuth_degrees": scene.front_azimuth_degrees, "fov_degrees": (low + high) / 2}
    return Videos.around(scene.frame, **view | settings)
