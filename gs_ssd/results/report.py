"""report.html: one page that shows all of a run, opens without a network and weighs under 15 MB."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from gs_ssd.edit.loop import StepReport
from gs_ssd.results.change import Change
from gs_ssd.results.page import (
    command_line,
    curves,
    data_uri,
    earlier,
    figure,
    files,
    picture_uri,
    settings,
    times,
    write_page,
)
from gs_ssd.results.splats import RECORD, Stand, pack
from gs_ssd.results.video import smaller_copy
from gs_ssd.scene import Gaussians

LARGEST = 15_000_000  # bytes of a page
_MOST = 120_000  # Gaussians that a browser on a phone still turns smoothly
_BASE64 = 4 / 3
_VIDEO = 4_000_000  # bytes; a larger turntable is embedded at a lower quality

READINGS = {
    "clip_similarity": "Likeness of the edited views and the target prompt. Higher is better, within one judge.",
    "clip_similarity_before": "The same of the source: what the edit started from.",
    "clip_direction": "Whether the pictures changed as the words did. Higher is better; 0 is an unrelated change.",
    "clip_source_similarity": "How much the edited views still resemble the source. 1 is unchanged.",
    "retrieval_top1": "Share of views that the judge takes for this target, of all ready-made prompts. 1 is best.",
    "clip_direction_consistency": "Whether neighbouring views changed in the same direction. 1 is best.",
    "clip_similarity_compat": "clip_similarity as the published script computes it; only for its tables.",
    "clip_direction_compat": "clip_direction as the published script computes it; only for its tables.",
    "view_consistency": "dB between neighbouring views carried into each other. Look at it beside the source's value.",
    "view_consistency_before": "The same of the source, the most that the edit can reach.",
    "background_psnr": "dB of the pixels that were not to change. Above 40 nobody sees a difference.",
    "background_ssim": "Structure of what was not to change. 1 is identical.",
    "background_lpips": "Perceived distance of what was not to change. 0 is identical.",
    "unedited_psnr": "dB of the parts that the prompt must keep, the worst one. Above 40 nobody sees a difference.",
    "source_psnr": "dB of all pixels against the source: how strong the edit is. Lower is stronger.",
    "bright_spots": "Share of pixels burnt out by the edit. Above 0.01 it is visible.",
    "pixel_change": "Mean change over all pixels and channels of the judged views, of 1.",
    "seconds": "Seconds of the edit's steps.",
    "seconds_per_step": "Seconds of one step.",
    "evaluations": "Noise predictions per view, of all steps and before the first.",
    "evaluations_per_step": "Noise predictions per view and step, which is what a step costs on a large prior.",
}


def write_scene_html(
    gaussians: Gaussians, path: str | os.PathLike, *, stand: Stand, title: str = "scene", limit: int = 200_000
) -> int:
    """Write the scene as one page that shows it in 3D without a network; returns how many Gaussians it shows.

    Args:
        stand: where the viewer stands at first, such as `Stand.of_orbit(cameras, background)`.
        limit: of that many Gaussians, those that look largest are kept; each takes 32 bytes.
    """
    data = Markup(pack(gaussians, stand, limit=limit))
    write_page(
        "scene.html",
        path,
        scene=data,
        title=title,
        view=stand.settings(antialiased=gaussians.antialiased, whole=True),
    )
    return min(len(gaussians), limit)


def write_report(
    path: Path,
    *,
    before: Gaussians,
    after: Gaussians,
    stand: Stand,
    sides: Sequence[tuple[str, np.ndarray, np.ndarray]],
    labels: tuple[str, str],
    reports: Sequence[StepReport],
    change: Change,
    metrics: Mapping[str, Any],
    manifest: Mapping[str, Any],
) -> None:
    """Write the report of a run to `path`; the files beside it are linked, turntable.mp4 is embedded.

    Args:
        sides: (name, before, after), uint8 pictures [H, W, 3] of both scenes from the same camera.
        manifest: what run.json says; each part of it may be missing.
    """
    pictures = [
        {"name": name, "width": one.shape[1], "height": one.shape[0]}
        | {"before": picture_uri(one), "after": picture_uri(two)}
        for name, one, two in sides
    ]
    video = _video_uri(path.parent / "turntable.mp4")
    used = len(video or "") + sum(len(side["before"]) + len(side["after"]) for side in pictures)
    left = LARGEST - 500_000 - used  # half a megabyte for words, curves and the viewer
    limit = min(_MOST, max(int(left / (2 * RECORD.itemsize * _BASE64)), 1000))
    write_page(
        "report.html",
        path,
        labels=labels,
        facts=_facts(before, after, reports, manifest),
        warnings=_warnings(change, reports),
        sides=pictures,
        video=video,
        curves=curves(reports),
        numbers=_numbers(change, metrics),
        times=times("The run, in seconds", manifest.get("seconds")),
        phases=times("Its steps, by phase", manifest.get("seconds_by_phase")),
        files=files(path.parent),
        command=command_line(manifest.get("command")),
        earlier=earlier(path.parent, manifest.get("earlier_edits")),
        settings=settings(manifest),
        shown=_shown(before, after, limit),
        before=Markup(pack(before, stand, limit=limit)),
        after=Markup(pack(after, stand, limit=limit)),
        view=stand.settings(antialiased=after.antialiased),
    )


def _video_uri(path: Path) -> str | None:
    if not path.is_file():
        return None
    if path.stat().st_size <= _VIDEO:
        return data_uri("video/mp4", path.read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "turntable.mp4"
        smaller_copy(path, copy, side=480)
        if copy.stat().st_size > _VIDEO:
            smaller_copy(path, copy, side=320, crf=34)
        return data_uri("video/mp4", copy.read_bytes()) if copy.stat().st_size <= 1.5 * _VIDEO else None


def _facts(
    before: Gaussians, after: Gaussians, reports: Sequence[StepReport], manifest: Mapping[str, Any]
) -> list[tuple[str, str]]:
    config = manifest.get("config") or {}
    method = str((config.get("guidance") or {}).get("_target_", "")).rpartition(".")[2]
    seconds = (manifest.get("seconds") or {}).get("edit")
    count = f"{len(before):,}" + (f" → {len(after):,}" if len(after) != len(before) else "")
    facts = [
        ("scene", (config.get("scene") or {}).get("name")),
        ("Gaussians", count),
        ("method", method),
        ("steps", f"{len(reports):,}"),
        ("edited in", f"{seconds:,.0f} s" if isinstance(seconds, int | float) else None),
        ("device", (manifest.get("environment") or {}).get("device")),
        ("gs_ssd", ((manifest.get("environment") or {}).get("packages") or {}).get("gs_ssd")),
    ]
    return [(name, str(value)) for name, value in facts if value]


def _warnings(change: Change, reports: Sequence[StepReport]) -> list[str]:
    if not reports:
        return ["This run was stopped before its first step: both sides show the source."]
    if not change.visible:
        return ["This edit changed next to nothing that a person could see."]
    return []


def _numbers(change: Change, metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = [
        ("largest change", change.pixels, "Of the most changed thousandth of the pixels. From 0.04 a person sees it."),
        ("mean change", change.mean, "Over all pixels and channels, of 1."),
    ]  # fmt: skip
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            whole = name.removesuffix("_by_part")
            rows += [(f"{whole}: {part}", number, READINGS.get(whole, "")) for part, number in value.items()]
        elif value is not None:
            rows.append((name, value, READINGS.get(name, "")))
    return [{"name": name, "value": figure(value), "reading": reading} for name, value, reading in rows]


def _shown(before: Gaussians, after: Gaussians, limit: int) -> str:
    count = max(len(before), len(after))
    notes = ["Shown without view-dependent colours."] * (after.sh_degree > 0)
    notes += [f"Of {count:,} Gaussians, the {limit:,} that look largest are shown."] * (count > limit)
    return " ".join(notes)
