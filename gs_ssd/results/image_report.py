"""report.html of a picture that was edited, or made from noise: one page that opens without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gs_ssd.edit.loop import StepReport
from gs_ssd.results.page import command_line, curves, figure, files, picture_uri, settings, times, write_page

_LARGE, _STRIP = 1280, 2400  # pixels of the longer side: of the picture, and of pictures of it in a row
_VISIBLE = 0.004  # a mean change of 1/255
STRIPS = {"progress.png": "Step by step", "decomposition.png": "What the noise predictions consist of"}


def write_image_report(
    path: Path,
    *,
    before: np.ndarray | None,
    after: np.ndarray,
    labels: tuple[str | None, str],
    reports: Sequence[StepReport],
    manifest: Mapping[str, Any],
) -> None:
    """Write the report of an edit of a picture to `path`; the files beside it are linked, their strips embedded.

    Args:
        before, after: uint8 pictures [H, W, 3]; `before` is None for one that was made from noise.
        labels: what the source, None for noise, and the target say.
        manifest: what run.json says.
    """
    height, width = after.shape[:2]
    made = picture_uri(after, _LARGE)
    sides: list[dict[str, Any]] = []
    if before is not None:
        pair = {"before": picture_uri(before, _LARGE), "after": made}
        sides.append({"name": "the picture", "width": width, "height": height} | pair)
    write_page(
        "picture.html",
        path,
        title=" → ".join(label for label in labels if label),
        labels=labels,
        facts=_facts(width, height, reports, manifest),
        warnings=_warnings(reports, manifest),
        sides=sides,
        made=made,
        strips=_strips(path.parent),
        curves=curves(reports),
        numbers=_numbers(manifest),
        times=None,
        phases=times("Its steps, in seconds", manifest.get("seconds_by_phase")),
        files=files(path.parent),
        earlier=[],
        command=command_line(manifest.get("command")),
        settings=settings(manifest),
    )


def _facts(
    width: int, height: int, reports: Sequence[StepReport], manifest: Mapping[str, Any]
) -> list[tuple[str, str]]:
    config, environment = manifest.get("config") or {}, manifest.get("environment") or {}
    facts = [
        ("pixels", f"{width} × {height}"),
        ("method", str((config.get("guidance") or {}).get("_target_", "")).rpartition(".")[2]),
        ("steps", f"{len(reports):,}"),
        ("in", f"{manifest['seconds']:,.0f} s" if "seconds" in manifest else None),
        ("device", environment.get("device")),
        ("gs_ssd", (environment.get("packages") or {}).get("gs_ssd")),
    ]
    return [(name, str(value)) for name, value in facts if value]


def _warnings(reports: Sequence[StepReport], manifest: Mapping[str, Any]) -> list[str]:
    if not reports:
        return ["This run was stopped before its first step: the picture is as it was."]
    if (manifest.get("change") or {}).get("mean", 1) < _VISIBLE:
        return ["This edit changed next to nothing that a person could see."]
    return []


def _numbers(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = [
        ("mean change", (manifest.get("change") or {}).get("mean"), "Over all pixels and channels, of 1."),
        ("steps", manifest.get("steps_done"), "Done, of those that the settings name."),
        ("seconds", manifest.get("seconds"), "Of the steps."),
    ]
    return [
        {"name": name, "value": figure(value), "reading": reading}
        for name, value, reading in rows
        if value is not None
    ]


def _strips(folder: Path) -> list[dict[str, str]]:
    strips = []
    for name, title in STRIPS.items():
        if (folder / name).is_file():
            with Image.open(folder / name) as image:
                strips.append(
                    {"title": title, "picture": picture_uri(np.asarray(image.convert("RGB")), _STRIP)}
                )
    return strips
