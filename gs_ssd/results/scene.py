"""What a run leaves behind: the edited scene, videos, pictures and the manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gs_ssd.edit.loop import StepReport
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path
from gs_ssd.render import Render
from gs_ssd.results.change import Change, measure_change
from gs_ssd.results.pictures import contact_sheet, loss_curves
from gs_ssd.results.video import to_uint8, write_video
from gs_ssd.scene import Cameras, Gaussians, save_gaussians

Renderer = Callable[[Gaussians, Cameras], Render]


def make_output_dir(folder: str | None, *, scene: str, prompt: str) -> Path:
    """Create the run's folder, outputs/<scene>/<prompt>/<time> unless given, and see that it can be written.

    Raises UserError before any work is done.
    """
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    path = Path(folder).expanduser() if folder else Path("outputs") / scene / prompt / stamp
    number = 1
    while folder is None and path.exists():
        number += 1
        path = path.with_name(f"{stamp}_{number}")
    if path.exists() and not path.is_dir():
        raise UserError(f"output_dir {path} is a file; choose a folder")
    with atomic_path(path / "run.json") as probe:
        probe.write_text("{}\n")
    return path


@torch.no_grad()
def render_views(renderer: Renderer, gaussians: Gaussians, cameras: Cameras) -> Iterator[Tensor]:
    """One [H, W, 3] image per camera, one at a time."""
    for index in range(len(cameras)):
        yield renderer(gaussians, cameras[index]).rgb[0].clamp(0, 1).cpu()


@dataclass
class Videos:
    """How the turntables are rendered: frame rate, cameras of the videos and of the contact sheet."""

    cameras: Cameras
    sheet_cameras: Cameras
    fps: int = 20


def write_results(
    folder: Path,
    *,
    before: Gaussians,
    after: Gaussians,
    renderer: Renderer,
    videos: Videos,
    reports: Sequence[StepReport],
    labels: tuple[str, str],
) -> Change:
    """Write edited.ply, turntable.mp4, before_after.mp4, before_after.png and loss.png; returns the change."""
    save_gaussians(after, folder / "edited.ply")
    frames_before = [to_uint8(image) for image in render_views(renderer, before, videos.cameras)]
    frames_after = [to_uint8(image) for image in render_views(renderer, after, videos.cameras)]
    write_video(frames_after, folder / "turntable.mp4", fps=videos.fps)
    side_by_side = (np.concatenate(pair, axis=1) for pair in zip(frames_before, frames_after))
    write_video(side_by_side, folder / "before_after.mp4", fps=videos.fps)

    sheet_before = torch.stack(list(render_views(renderer, before, videos.sheet_cameras)))
    sheet_after = torch.stack(list(render_views(renderer, after, videos.sheet_cameras)))
    rows = [(f"before: {labels[0]}", sheet_before), (f"after: {labels[1]}", sheet_after)]
    contact_sheet(rows, folder / "before_after.png")
    if reports:
        loss_curves(reports, folder / "loss.png")
    return measure_change(before, after, sheet_before, sheet_after)
