"""The files that can be taken away; all of them are written into the session's folder."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gs_ssd.checks import choice
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path
from gs_ssd.render import Render
from gs_ssd.results.camera_paths import keyframe_cameras
from gs_ssd.results.folder import slug
from gs_ssd.results.report import write_scene_html
from gs_ssd.results.shots import write_shots
from gs_ssd.results.splats import Stand
from gs_ssd.scene.formats import save_gaussians
from gs_ssd.scene.scene import Scene

FORMATS = {
    ".ply": "everything, for any splat viewer",
    ".compressed.ply": "a quarter of the size, for PlayCanvas and SuperSplat",
    ".splat": "small, without view-dependent colours",
    ".spz": "smallest, for Scaniverse and Niantic's tools",
    ".html": "a page that shows the scene in 3D, without a network",
}


def inside(folder: Path, name: str) -> Path:
    """The file `name` in `folder`; raises UserError for a name that leads out of it."""
    folder = folder.resolve()
    plain = name not in ("", ".", "..") and "\0" not in name and os.path.basename(name) == name
    path = folder / name if plain else folder
    if not plain or path.resolve() != path:  # a link would lead elsewhere
        raise UserError(f"{name!r} lies outside the session's folder")
    return path


def export_scene(scene: Scene, folder: Path, suffix: str) -> Path:
    """Write the scene in the format of `suffix`, one of FORMATS; returns the file."""
    choice("format", suffix, FORMATS)
    path = inside(folder, f"{slug(scene.name)}{suffix}")
    if suffix != ".html":
        save_gaussians(scene.gaussians, path)
        return path
    stand = Stand.of_orbit(scene.turn(8), tuple(scene.background))
    write_scene_html(scene.gaussians, path, stand=stand, title=scene.name)
    return path


def export_video(
    scene: Scene,
    folder: Path,
    keyframes: Sequence[Mapping[str, Any]],
    *,
    renderer: Callable[..., Render],
    device: Any,
    frames: int,
    fps: float,
    width: int,
    height: int,
    each: Callable[[], None],
) -> Path:
    """Write a video along camera keyframes (`gs_ssd.results.camera_paths`); returns the file."""
    cameras = keyframe_cameras(scene.frame, keyframes, frames=frames, width=width, height=height)
    path = inside(folder, f"{slug(scene.name)}.mp4")
    write_shots(scene.gaussians.to(device), cameras.to(device), path, renderer=renderer, fps=fps, each=each)
    return path


def around(scene: Scene) -> list[Mapping[str, Any]]:
    """Keyframes once around the object, from its front."""
    low, high = scene.views.get("fov_degrees", (40.0, 50.0))
    front = scene.front_azimuth_degrees
    return [
        {"azimuth_degrees": front + 90.0 * quarter, "fov_degrees": (low + high) / 2} for quarter in range(5)
    ]


def bundle(folder: Path, names: Sequence[str], target: str) -> Path:
    """Put the files `names` of `folder` into one .zip there; returns it."""
    path = inside(folder, target)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(folder / name, name)
    return path
