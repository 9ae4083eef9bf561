"""`gs-ssd render scene=face output=turn.mp4`: a scene along a camera path, as a video or as pictures."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gs_ssd.checks import choice, number, vector, whole
from gs_ssd.cli.app import guarded
from gs_ssd.cli.settings import parse, setting, usage
from gs_ssd.errors import UserError

if TYPE_CHECKING:
    from gs_ssd.scene import Cameras
    from gs_ssd.scene.scene import Scene

HEADER = """Render a scene: gs-ssd render scene=face output=turn.mp4

  gs-ssd render scene=outputs/face/clown/<time> size=1024 output=clown.gif
  gs-ssd render scene=my.ply path=keyframes.json output=flight.mp4       see docs/report.md for the file
  gs-ssd render scene=my.ply path=colmap_folder frames=240 output=flight.mp4
  gs-ssd render scene=my.ply path=colmap_folder show=depth output=depth  16-bit pictures"""

FRAMES = 120  # of an orbit and a keyframe path


@dataclass(frozen=True)
class RenderSettings:
    """What is rendered, from where, and to where."""

    scene: str = setting("a splat in any known format, a run's folder, or face, elder, woman")
    output: str = setting("turn.mp4, turn.gif, one.png, or a folder for pictures", "render.mp4")
    path: str = setting(
        "orbit, a keyframe file, or cameras (COLMAP folder, transforms.json, cameras.json)", "orbit"
    )
    show: str = setting("rgb, rgba (pictures), depth or alpha", "rgb")
    frames: int | None = setting(
        "of an orbit or a keyframe path, 120 by itself; of given cameras: a smooth way through them, else one of each",
        None,
    )
    fps: float = setting("frames per second of a video", 30.0)
    size: int = setting("pixels of the longer side, even", 512)
    elevation: float = setting("degrees above the horizon of an orbit", 10.0)
    fov: float | None = setting(
        "degrees that an orbit's pictures span; without it, the scene's own or 45", None
    )
    distance: float = setting("of an orbit, in multiples of that at which the object fits", 1.0)
    background: tuple[float, ...] | None = setting(
        "[r,g,b] from 0 to 1; without it, the scene's own or white", None
    )
    up: str = setting("auto, or the axis that points up, such as -y", "auto")
    device: str = setting("auto, cpu or cuda", "auto")

    def __post_init__(self) -> None:
        if self.frames is not None:
            whole("frames", self.frames, 1, 100_000)
        number("fps", self.fps, least=0.1, most=240)
        if whole("size", self.size, 2, 8192) % 2:
            raise UserError(
                f"size={self.size} is odd, and a video's sides are even; try size={self.size + 1}"
            )
        number("elevation", self.elevation, least=-89, most=89)
        if self.fov is not None:
            number("fov", self.fov, least=1, most=170)
        number("distance", self.distance, least=0.01, most=100)
        choice("show", self.show, ("rgb", "rgba", "depth", "alpha"))
        choice("device", self.device, ("auto", "cpu", "cuda"))
        if self.background is not None:
            vector("background", self.background, 3, least=0, most=1)


def main(argv: Sequence[str]) -> int:
    """Render; returns the exit code."""
    if not argv or any(argument in ("-h", "--help") for argument in argv):
        print(usage(RenderSettings, HEADER))
        return 0
    return guarded(lambda signals: run(parse(RenderSettings, argv)))


def run(settings: RenderSettings) -> None:
    import torch
    from tqdm import tqdm

    from gs_ssd.render import render
    from gs_ssd.results.shots import check_output, write_shots

    output = Path(os.path.expanduser(settings.output))
    check_output(output, settings.show)
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: torch sees no CUDA GPU here; use device=cpu or device=auto")
    device = "cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu"
    scene = scene_of(settings)
    cameras = cameras_of(settings, scene)
    if output.suffix.lower() == ".png":
        cameras = cameras[0]
    background = torch.tensor(settings.background or scene.background, device=device)
    with tqdm(total=len(cameras), desc="render", unit="frame", disable=not sys.stderr.isatty()) as bar:
        limits = write_shots(
            scene.gaussians.to(device),
            cameras.to(device),
            output,
            renderer=partial(render, background=background),
            show=settings.show,
            fps=settings.fps,
            each=bar.update,
        )
    what = f"{len(cameras)} frame{'s' * (len(cameras) > 1)} of {cameras.width}x{cameras.height} pixels"
    depth = "" if limits is None else f"; depth from {limits[0]:.4g} (white) to {limits[1]:.4g} (black)"
    print(f"{settings.show:<8} {output}: {what}{depth}")


def scene_of(settings: RenderSettings) -> Scene:
    """The scene that `scene=` names: a sample, a run's edit, or a file; what a run knew of its results is kept."""
    from gs_ssd import samples
    from gs_ssd.results.earlier import open_scene
    from gs_ssd.scene.scene import Scene

    path = Path(os.path.expanduser(settings.scene))
    if settings.scene in samples.SUBJECTS and not os.path.exists(path):
        return Scene.sample(settings.scene)
    known: dict[str, Any] = {} if settings.up == "auto" else {"up": settings.up}
    return open_scene(path, **known)


def cameras_of(settings: RenderSettings, scene: Scene) -> Cameras:
    """The cameras of the path that `path=` names."""
    from gs_ssd.results.camera_paths import keyframe_cameras, read_keyframes, through
    from gs_ssd.scene.datasets import load_cameras
    from gs_ssd.scene.views import fit_distance, orbit

    size, frames = settings.size, settings.frames or FRAMES
    if settings.path == "orbit":
        fov = settings.fov or sum(scene.views.get("fov_degrees", (45.0, 45.0))) / 2
        return orbit(
            scene.frame,
            frames,
            width=size,
            height=size,
            fov_degrees=fov,
            elevation_degrees=settings.elevation,
            distance=settings.distance * fit_distance(scene.frame, fov),
            front_azimuth_degrees=scene.front_azimuth_degrees,
        )
    path = Path(os.path.expanduser(settings.path))
    if path.suffix.lower() == ".json" and os.path.isfile(path):
        keyframes = read_keyframes(path)
        if keyframes is not None:
            return keyframe_cameras(scene.frame, keyframes, frames=frames, width=size, height=size)
    cameras = load_cameras(path)
    scale = size / max(cameras.width, cameras.height)
    sides = (max(2 * round(side * scale / 2), 2) for side in (cameras.width, cameras.height))
    cameras = cameras.resized(*sides)
    return cameras if settings.frames is None else through(cameras, settings.frames)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
