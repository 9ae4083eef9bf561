"""What an edit of a scene leaves behind: the edited scene, videos, pictures, numbers, the report and the manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gs_ssd.checks import number, whole
from gs_ssd.edit.loop import StepReport
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path, sha256
from gs_ssd.render import Render
from gs_ssd.results.change import Change, measure_change
from gs_ssd.results.folder import clear
from gs_ssd.results.manifest import write_json
from gs_ssd.results.pictures import contact_sheet, loss_curves
from gs_ssd.results.report import write_report
from gs_ssd.results.splats import Stand
from gs_ssd.results.video import check_fps, to_uint8, video_writer
from gs_ssd.scene import Cameras, Gaussians, SceneFrame, save_gaussians
from gs_ssd.scene.datasets import cameras_json
from gs_ssd.scene.views import turntable

Renderer = Callable[[Gaussians, Cameras], Render]
Pair = tuple[Tensor, Tensor]  # [H, W, 3] before and after, from one camera

_LARGEST = 8192  # pixels of a side; H.264's limit lies a little above


@dataclass(frozen=True)
class Videos:
    """How a result is shown: the cameras of the videos and of the contact sheet, and the frame rate."""

    cameras: Cameras
    sheet_cameras: Cameras
    fps: float = 20

    def __post_init__(self) -> None:
        check_fps(self.fps, "render.fps")
        whole("the number of frames", len(self.cameras), 1)
        whole("the number of pictures", len(self.sheet_cameras), 1)
        for side in (self.cameras.width, self.cameras.height):
            check_size(side)

    @classmethod
    def around(
        cls,
        frame: SceneFrame,
        *,
        frames: int = 60,
        fps: float = 20,
        size: int = 384,
        elevation_degrees: float = 10.0,
        sheet_views: int = 8,
        sheet_size: int = 192,
        front_azimuth_degrees: float = 0.0,
        fov_degrees: float = 45.0,
    ) -> Videos:
        """Turns around the object at `frame`.

        Args:
            frames, fps, size: of the videos; `size` is the side in pixels and even.
            sheet_views, sheet_size: pictures per row of the contact sheet, and their side in pixels.
            elevation_degrees, front_azimuth_degrees, fov_degrees: see `gs_ssd.scene.views.turntable`.

        Raises UserError for a setting that can't be rendered, so make it before the edit.
        """
        whole("render.frames", frames, 1, 100_000)
        check_size(size)
        whole("render.sheet_views", sheet_views, 1, 1000)
        whole("render.sheet_size", sheet_size, 1, _LARGEST)
        orbit = {
            "elevation_degrees": number("render.elevation_degrees", elevation_degrees, least=-89, most=89),
            "front_azimuth_degrees": front_azimuth_degrees,
            "fov_degrees": number("the field of view", fov_degrees, least=1, most=170),
        }
        return cls(
            cameras=turntable(frame, frames, size=size, **orbit),
            sheet_cameras=turntable(frame, sheet_views, size=sheet_size, **orbit),
            fps=fps,
        )

    def to(self, device: torch.device | str) -> Videos:
        return Videos(self.cameras.to(device), self.sheet_cameras.to(device), self.fps)


def check_size(size: object, name: str = "render.size") -> int:
    """`size` as the side of a video in pixels; raises UserError unless it is even (H.264 halves the colours)."""
    side = whole(name, size, 2, _LARGEST)
    if side % 2:
        raise UserError(f"{name}={side} is odd, and a video's sides are even; try {name}={side + 1}")
    return side


@torch.no_grad()
def render_views(renderer: Renderer, gaussians: Gaussians, cameras: Cameras) -> Iterator[Tensor]:
    """One [H, W, 3] image per camera, one at a time."""
    for index in range(len(cameras)):
        yield renderer(gaussians, cameras[index]).rgb[0].clamp(0, 1).cpu()


def save_scene(
    folder: Path,
    after: Gaussians,
    *,
    cameras: Cameras | None = None,
    origin: Tensor | None = None,
    parts: Tensor | None = None,
) -> None:
    """Write edited.ply, and beside it what is there of cameras.json, origin.npy and parts.npy.

    `origin` [N] is as in `gs_ssd.results.blend`, `parts` [N] labels as in `gs_ssd.scene.parts`.
    An older run's files go when the new scene is complete beside them, so a full disk or a kill costs neither run.
    """
    with atomic_path(folder / "edited.ply") as temporary:
        save_gaussians(after, temporary)
        clear(folder, keep=["edited.ply"])
    if cameras is not None:
        cameras_json.write(cameras, folder / "cameras.json")
    if origin is not None:
        with atomic_path(folder / "origin.npy") as temporary:
            np.save(temporary, origin.cpu().numpy().astype(np.int64))
    if parts is not None:
        with atomic_path(folder / "parts.npy") as temporary:
            np.save(temporary, parts.cpu().numpy().astype(np.uint8))


def write(
    folder: Path,
    *,
    before: Gaussians,
    after: Gaussians,
    renderer: Renderer,
    videos: Videos,
    reports: Sequence[StepReport],
    labels: tuple[str, str],
    cameras: Cameras | None = None,
    origin: Tensor | None = None,
    parts: Tensor | None = None,
    change: Change | None = None,
    metrics: Callable[[], Mapping[str, Any]] | None = None,
    manifest: Callable[[], Mapping[str, Any]] | None = None,
) -> Change:
    """Write all results of one edit; returns the change it made.

    Writes edited.ply, cameras.json, origin.npy and parts.npy where they are known, turntable.mp4, before_after.mp4,
    before_after.png, loss.png where there were steps, report.html, and metrics.json and run.json where `metrics` and
    `manifest` are given. run.json is last and gets the output's digest and the change. Each view is rendered once.

    Args:
        labels: what the source and the target show, in words.
        cameras: the user's own, for cameras.json; None writes those of the videos.
        origin: [N_after] index of the source Gaussian that each edited one descends from.
        parts: [N_after] part labels of the edited scene, for the next edit.
        change: how much the edit changed, if it is known; else it is measured on the contact sheet's views.
        metrics, manifest: asked for when the scene and its pictures are safe.
    """
    save_scene(folder, after, cameras=cameras or videos.cameras, origin=origin, parts=parts)
    wanted = {_key(videos.sheet_cameras, i) for i in range(len(videos.sheet_cameras))}
    side_views = _sides(len(videos.cameras))
    wanted |= {_key(videos.cameras, i) for i in side_views.values()}
    known = _write_videos(folder, before, after, renderer, videos, wanted)
    sheet = _sheet_pairs(before, after, renderer, videos.sheet_cameras, known)
    sheet_before, sheet_after = (torch.stack(images) for images in zip(*sheet))
    rows = [(f"before: {labels[0]}", sheet_before), (f"after: {labels[1]}", sheet_after)]
    contact_sheet(rows, folder / "before_after.png")
    if reports:
        loss_curves(reports, folder / "loss.png")
    if change is None:
        change = measure_change(before, after, sheet_before, sheet_after)
    measured: dict[str, Any] = {}
    if metrics is not None:
        measured = dict(metrics())
        write_json(measured, folder / "metrics.json")
    output = {"sha256": sha256(folder / "edited.ply"), "gaussians": len(after)}
    said = {**(manifest() if manifest is not None else {}), "output": output, "change": vars(change)}
    pictures = {name: known[_key(videos.cameras, index)] for name, index in side_views.items()}
    write_report(
        folder / "report.html",
        before=before,
        after=after,
        stand=Stand.of_orbit(videos.cameras, background_of(renderer, after, videos.cameras)),
        sides=[(name, to_uint8(pair[0]), to_uint8(pair[1])) for name, pair in pictures.items()],
        labels=labels,
        reports=reports,
        change=change,
        metrics=measured,
        manifest=said,
    )
    if manifest is not None:
        write_json(said, folder / "run.json")
    return change


@torch.no_grad()
def background_of(renderer: Renderer, gaussians: Gaussians, cameras: Cameras) -> tuple[float, ...]:
    """The colour (RGB in [0, 1]) that `renderer` puts behind a scene: what it shows of a Gaussian that nobody sees."""
    unseen = gaussians[:1].clone()
    unseen.opacities.fill_(-50.0)
    pixels = renderer(unseen, cameras[0].resized(2, 2)).rgb
    return tuple(pixels[0, 0, 0].clamp(0, 1).tolist())


def _sides(frames: int) -> dict[str, int]:
    """The frames of a turntable that show the scene from its four sides."""
    names = ("front", "right", "back", "left") if frames >= 4 else ("front",)
    return {name: round(i * frames / 4) for i, name in enumerate(names)}


def _write_videos(
    folder: Path, before: Gaussians, after: Gaussians, renderer: Renderer, videos: Videos, wanted: set
) -> dict[Any, Pair]:
    """Both videos in one pass, so that their frames need not be held; returns the `wanted` views among them."""
    known: dict[Any, Pair] = {}
    pairs = zip(render_views(renderer, before, videos.cameras), render_views(renderer, after, videos.cameras))
    with (
        video_writer(folder / "turntable.mp4", fps=videos.fps) as turn,
        video_writer(folder / "before_after.mp4", fps=videos.fps) as both,
    ):
        for index, pair in enumerate(pairs):
            frames = [to_uint8(image) for image in pair]
            turn.add(frames[1])
            both.add(np.concatenate(frames, axis=1))
            if (key := _key(videos.cameras, index)) in wanted:
                known[key] = pair
    return known


def _sheet_pairs(
    before: Gaussians, after: Gaussians, renderer: Renderer, cameras: Cameras, known: Mapping[Any, Pair]
) -> list[Pair]:
    """Both scenes from every camera, rendered only where it is not `known`."""
    pairs = []
    for index in range(len(cameras)):
        pair = known.get(_key(cameras, index))
        if pair is None:
            camera = cameras[index]
            pair = (
                next(render_views(renderer, before, camera)),
                next(render_views(renderer, after, camera)),
            )
        pairs.append(pair)
    return pairs


def _key(cameras: Cameras, index: int) -> tuple[int, int, bytes, bytes]:
    """What makes two cameras give the same picture."""
    view, K = (value[index].cpu().numpy().tobytes() for value in (cameras.viewmats, cameras.Ks))
    return cameras.width, cameras.height, view, K
