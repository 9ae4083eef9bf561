"""What an evaluation says: tables of means, trends, and pages of pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from gs_ssd.evaluation.runs import Run
from gs_ssd.render import render
from gs_ssd.results.pictures import contact_sheet
from gs_ssd.results.scene import render_views
from gs_ssd.scene import load_gaussians
from gs_ssd.scene.datasets import load_cameras
from gs_ssd.scene.frame import find_frame
from gs_ssd.scene.views import turntable

# column: heading, digits, factor
COLUMNS: dict[str, tuple[str, int, float]] = {
    "clip_direction": ("direction ↑", 3, 1),
    "clip_similarity": ("CLIP sim ↑", 3, 1),
    "clip_direction_compat": ("direction, compat", 4, 1),
    "clip_similarity_compat": ("CLIP sim, compat", 4, 1),
    "clip_source_similarity": ("CLIP sim to source ↑", 3, 1),
    "clip_direction_consistency": ("direction consistency ↑", 3, 1),
    "retrieval_top1": ("retrieval ↑", 2, 1),
    "source_psnr": ("source kept, dB ↑", 1, 1),
    "background_psnr": ("background, dB ↑", 1, 1),
    "background_ssim": ("background SSIM ↑", 3, 1),
    "background_lpips": ("background LPIPS ↓", 4, 1),
    "unedited_psnr": ("unedited parts, dB ↑", 1, 1),
    "view_consistency": ("view consistency, dB ↑", 1, 1),
    "bright_spots": ("bright spots, % ↓", 2, 100),
    "seconds": ("seconds", 1, 1),
    "seconds_per_step": ("s per step", 3, 1),
    "evaluations_per_step": ("UNet evaluations per step", 2, 1),
}
TILE = 128  # pixels of a picture on a page


def mean(rows: Sequence[Mapping[str, Any]], column: str) -> float | None:
    """Over the rows that have the value; None where none has."""
    values = [row[column] for row in rows if row.get(column) is not None]
    return fmean(values) if values else None


def shown(value: float | None, column: str) -> str:
    _, digits, factor = COLUMNS[column]
    return "-" if value is None else f"{factor * value:.{digits}f}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def colour_rates(runs: Sequence[Run]) -> dict[str, str]:
    """Each variant's learning rate of the colours; several, where scenes have their own."""
    rates = [(run.variant, f"{run.config['optimizer']['rates']['sh0']:g}") for run in runs]
    return {
        variant: ", ".join(dict.fromkeys(rate for name, rate in rates if name == variant))
        for variant, _ in rates
    }


def variant_table(rows: Sequence[dict], columns: Sequence[str], rates: Mapping[str, str]) -> list[str]:
    """A line per variant: its rate and the means over its runs."""
    lines = []
    most = max(Counter(row["variant"] for row in rows).values(), default=0)
    for variant, rate in rates.items():
        own = [row for row in rows if row["variant"] == variant]
        name = variant
        if diverged := sum(row["diverged"] for row in own):
            name += f" ({diverged} of {len(own)} runs broke off)"
        elif len(own) < most:  # the evaluation is still going on
            name += f" ({len(own)} of {most} runs)"
        cells = [shown(mean(own, column), column) for column in columns]
        lines.append([name, rate, *cells])
    return table(["", "rate", *(COLUMNS[column][0] for column in columns)], lines)


def prompt_table(rows: Sequence[dict], column: str, variants: Sequence[str]) -> list[str]:
    """A line per variant, a column per prompt: means over the scenes."""
    prompts = list(dict.fromkeys(row["prompt"] for row in rows))
    lines = []
    for variant in variants:
        own = [row for row in rows if row["variant"] == variant]
        cells = [mean([row for row in own if row["prompt"] == prompt], column) for prompt in prompts]
        lines.append([variant, *(shown(cell, column) for cell in cells)])
    return table([COLUMNS[column][0], *prompts], lines)


def trend_lines(rows: Sequence[dict], trends: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether each claimed order holds: its metric should grow along the variants that it lists."""
    lines = []
    for trend in trends:
        column = trend["metric"]
        values = [mean([row for row in rows if row["variant"] == v], column) for v in trend["grows"]]
        numbers = ", ".join(f"{v}: {shown(value, column)}" for v, value in zip(trend["grows"], values))
        measured = [value for value in values if value is not None]
        if len(measured) < len(values):
            verdict = "not measured"
        else:
            verdict = "holds" if all(a < b for a, b in pairwise(measured)) else "**does not hold**"
        lines.append(f"* {trend['claim']}: {verdict} ({COLUMNS[column][0]} {numbers})")
    return lines


def target_lines(
    rows: Sequence[dict], targets: Sequence[Mapping[str, Any]], variants: Sequence[str]
) -> list[str]:
    """Whether each variant's mean over a target's prompts reaches what is asked for."""
    lines = []
    for target in targets:
        column = target["metric"]
        for variant in variants:
            own = [r for r in rows if r["variant"] == variant and r["prompt"] in target["prompts"]]
            value = mean(own, column)
            verdict = (
                "not measured" if value is None else "met" if value >= target["at_least"] else "**missed**"
            )
            lines.append(
                f"* {target['claim']}, {COLUMNS[column][0]} at least {target['at_least']:g}: {verdict} by {variant} "
                f"({shown(value, column)})"
            )
    return lines


@torch.no_grad()
def pictures(run: Run, *, of: str = "edit", count: int = 2) -> Tensor:
    """Views [count, TILE, TILE, 3] of a run's edit or of its "source", from the front and on around.

    The source of a scene without a file is the random ball that the run began with.
    """
    scene = OmegaConf.create(run.config).scene
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

    def renderer(gaussians, cameras):
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
        by_prompt = {run.case.prompt: run for run in runs if run.variant == variant}
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
