"""A scene along a camera path, as a video or as pictures: colours, depth, or how much the scene covers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gs_ssd.checks import choice
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path, check_writable
from gs_ssd.render import Render
from gs_ssd.results.video import check_fps, to_uint8, video_writer
from gs_ssd.scene import Cameras, Gaussians

SHOWS = ("rgb", "rgba", "depth", "alpha")
SUFFIXES = (".mp4", ".gif", ".png", "")
_PROBES = 8  # views that the range of depths is taken from
_SOLID = 0.5  # share of a pixel from which on it has a depth


def check_output(output: Path, show: str) -> None:
    """Raise UserError unless `show` can be written to `output`: .mp4, .gif, .png (one picture) or a folder."""
    choice("show", show, SHOWS)
    if output.suffix.lower() not in SUFFIXES:
        raise UserError(f"output={output} must end in .mp4, .gif or .png, or be a folder for pictures")
    if output.suffix and os.path.isdir(output):
        raise UserError(f"output={output} is a folder")
    if not output.suffix and os.path.exists(output) and not os.path.isdir(output):
        raise UserError(
            f"output={output} is a file; choose a folder, or a name that ends in .mp4, .gif or .png"
        )
    if show == "rgba" and output.suffix.lower() in (".mp4", ".gif"):
        raise UserError(
            f"show=rgba needs pictures, because {output.suffix} holds no transparency; set output=<folder>"
        )
    check_writable(output.parent if output.suffix else output, "output")


@torch.no_grad()
def write_shots(
    gaussians: Gaussians,
    cameras: Cameras,
    output: Path,
    *,
    renderer: Callable[..., Render],
    show: str = "rgb",
    fps: float = 30,
    each: Callable[[], None] = lambda: None,
) -> tuple[float, float] | None:
    """Render every camera and write `output`; returns the (near, far) that depth pictures span, in world units.

    Args:
        output: .mp4 or .gif, a .png for the first camera alone, or a folder for 00000.png and on.
        renderer: (gaussians, cameras, render_mode) → Render; its background is seen in "rgb" alone.
        show: "rgb"; "rgba", with transparency instead of a background; "alpha", white where the scene is solid;
            "depth", white at `near` and black at `far` and beyond. Depth pictures (not videos) have 16 bits.
        each: called after each frame.
    """
    check_output(output, show)
    check_fps(fps)
    limits = depth_range(gaussians, cameras, renderer) if show == "depth" else None

    def shots() -> Iterator[np.ndarray]:
        for index in range(len(cameras)):
            yield _shot(gaussians, cameras[index], renderer, show, limits)
            each()

    if output.suffix.lower() in (".mp4", ".gif"):
        with video_writer(output, fps=fps) as video:
            for shot in shots():
                video.add(_as_rgb(shot))
    elif output.suffix:
        _save(next(shots()), output)
    else:
        for index, shot in enumerate(shots()):
            _save(shot, output / f"{index:05d}.png")
    return limits


def depth_range(
    gaussians: Gaussians, cameras: Cameras, renderer: Callable[..., Render]
) -> tuple[float, float]:
    """The depths (world units) between which 98 % of the solid pixels lie, from some of the views."""
    chosen = torch.linspace(0, len(cameras) - 1, min(len(cameras), _PROBES)).long().tolist()
    depths = []
    for index in chosen:
        out = renderer(gaussians, cameras[index], render_mode="RGB+ED")
        assert out.depth is not None
        depths.append(out.depth[out.alpha > _SOLID].flatten().cpu())
    found = torch.cat(depths).double().numpy()
    if not len(found):
        return 0.0, 1.0
    near, far = np.quantile(found, [0.01, 0.99])
    return float(near), float(max(far, near * 1.001 + 1e-9))


def _shot(
    gaussians: Gaussians,
    camera: Cameras,
    renderer: Callable[..., Render],
    show: str,
    limits: tuple[float, float] | None,
) -> np.ndarray:
    """One picture: uint8 [H, W, 3] or [H, W, 4], or grey [H, W], uint8 (alpha) or uint16 (depth)."""
    out = renderer(gaussians, camera, render_mode="RGB+ED" if show == "depth" else "RGB")
    alpha = out.alpha[0, ..., 0].clamp(0, 1)
    if show == "alpha":
        return to_uint8(alpha)
    if show == "depth":
        assert out.depth is not None
        near, far = limits or (0.0, 1.0)
        share = ((far - out.depth[0, ..., 0].double()) / (far - near)).clamp(0, 1) * (alpha > _SOLID)
        return (share * 65535 + 0.5).cpu().numpy().astype(np.uint16)
    if show == "rgba":
        clear = renderer(gaussians, camera, render_mode="RGB", background=torch.zeros(3)).rgb[0]
        colour = torch.where(alpha[..., None] > 1e-4, clear / alpha[..., None].clamp_min(1e-4), clear)
        return to_uint8(torch.cat([colour, alpha[..., None]], dim=-1))
    return to_uint8(out.rgb[0])


def _as_rgb(shot: np.ndarray) -> np.ndarray:
    if shot.dtype == np.uint16:
        shot = (shot >> 8).astype(np.uint8)
    return shot if shot.ndim == 3 else np.repeat(shot[..., None], 3, axis=2)


def _save(shot: np.ndarray, path: Path) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(shot).save(temporary)
