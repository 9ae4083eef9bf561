"""Pages of pictures: the source and every variant's edits, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from hydra.utils import instantiate
from torch import Tensor

from gs_ssd.evaluation.images import spread
from gs_ssd.evaluation.pie_bench import PieItem
from gs_ssd.evaluation.runs import Run
from gs_ssd.render import Render, render
from gs_ssd.results.image_files import load_image
from gs_ssd.results.pictures import contact_sheet
from gs_ssd.results.scene import render_views
from gs_ssd.scene import Cameras, Gaussians, load_gaussians
from gs_ssd.scene.datasets import load_cameras
from gs_ssd.scene.frame import find_frame
from gs_ssd.scene.views import turntable
from gs_ssd.session.config import recalled

TILE = 128  # pixels of a picture on a page
GRID_ROWS, GRID_SIDE = 16, 192


@torch.no_grad()
def pictures(run: Run, *, of: str = "edit", count: int = 2) -> Tensor:
    """Views [count, TILE, TILE, 3] of a run's edit or of its "source", from the front and on around.

    The source of a scene without a file is the random ball that the run began with.
    """
    scene = recalled(run.config).scene
    if scene.path is None:
        source = instantiate(scene.start, generator=torch.Generator().manual_seed(run.config["seed"]))
    else:
        source = load_gaussians(scene.path)
    shown_scene = source if of == "source" else load_gaussians(run.folder / "edited.ply")
    cameras = load_cameras(scene.cameras) if scene.cameras else None
    frame = find_frame(source, up=scene.up, center=scene.center, radius=scene.radius, cameras=cameras)
    front = scene.views.front_azimuth_degrees + 20  # a little from the side shows the shape
    fov = sum(scene.views.fov_degrees) / 2
    views = turntable(frame, count, size=TILE, front_azimuth_degrees=front, fov_degrees=fov)
    background = torch.tensor(list(scene.background))

    def renderer(gaussians: Gaussians, cameras: Cameras) -> Render:
        return render(gaussians, cameras, background=background)

    return torch.stack(list(render_views(renderer, shown_scene, views)))


def write_pages(runs: Sequence[Run], folder: Path, *, per_row: int = 0) -> list[Path]:
    """A page per scene: the source, then a row per variant; per prompt the front and the back.

    With `per_row` a page per scene and prompt: the variants' fronts, so many in a row.
    """
    pages = {}
    for scene in dict.fromkeys(run.case.scene for run in runs):
        own = [run for run in runs if run.case.scene == scene]
        if not per_row:
            pages[scene] = _by_variant(own)
            continue
        for prompt in dict.fromkeys(run.case.prompt for run in own):
            pages[f"{scene}_{prompt}"] = _in_rows([run for run in own if run.case.prompt == prompt], per_row)
    for name, rows in pages.items():
        contact_sheet(rows, folder / f"{name}.png")
    return [folder / f"{name}.png" for name in pages]


def _by_variant(runs: Sequence[Run]) -> list[tuple[str, Tensor]]:
    prompts = list(dict.fromkeys(run.case.prompt for run in runs))
    source = torch.ones(2 * len(prompts), TILE, TILE, 3)
    source[:2] = pictures(runs[0], of="source")
    rows = [(f"{_source_name(runs[0])}; below it, from the left: {', '.join(prompts)}", source)]
    for variant in dict.fromkeys(run.variant for run in runs):
        own = [run for run in runs if run.variant == variant]
        by_prompt = {run.case.prompt: run for run in reversed(own)}  # of several seeds the first
        rows.append((variant, torch.cat([pictures(by_prompt[prompt]) for prompt in prompts])))
    return rows


def _source_name(run: Run) -> str:
    return "source" if run.config["scene"]["path"] else "a random ball"


def _in_rows(runs: Sequence[Run], per_row: int) -> list[tuple[str, Tensor]]:
    source = torch.ones(per_row, TILE, TILE, 3)
    source[:1] = pictures(runs[0], of="source")[:1]
    rows = [(_source_name(runs[0]), source)]
    for start in range(0, len(runs), per_row):
        some = runs[start : start + per_row]
        label = "  |  ".join(run.variant for run in some)
        rows.append((label, torch.cat([pictures(run)[:1] for run in some])))
    return rows


def write_grid(runs: Sequence[Run], items: Sequence[PieItem], folder: Path) -> Path:
    """A row per picture, some of them: the source and every variant's edit."""
    sheet = []
    for item in spread(items, GRID_ROWS):
        own = {run.variant: run for run in reversed(runs) if run.case.picture is item}
        own = {variant: own[variant] for variant in dict.fromkeys(run.variant for run in runs)}
        shown = [load_image(item.image, size=GRID_SIDE)]
        shown += [load_image(run.folder / "after.png", size=GRID_SIDE) for run in own.values()]
        sheet.append((f"{item.target}: source, {', '.join(own)}", torch.cat(shown)))
    contact_sheet(sheet, folder / "grid.png")
    return folder / "grid.png"
