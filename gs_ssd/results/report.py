"""report.html: one page that shows all of a run, opens without a network and weighs under 15 MB."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from gs_ssd.edit.loop import StepReport
from gs_ssd.files import atomic_path
from gs_ssd.results.change import Change
from gs_ssd.results.curves import curve_svg
from gs_ssd.results.splats import RECORD, Stand, pack
from gs_ssd.results.video import smaller_copy
from gs_ssd.scene import Gaussians

TEMPLATES = Path(__file__).parent / "templates"
LARGEST = 15_000_000  # bytes of a page
_MOST = 120_000  # Gaussians that a browser on a phone still turns smoothly
_BASE64 = 4 / 3
_VIDEO = 4_000_000  # bytes; a larger turntable is embedded at a lower quality
_PICTURE = 640  # pixels of a picture's longer side

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
    "evaluations_per_step": "Noise predictions per view and step, which is what a step costs on a large prior.",
}
FILES = {
    "edited.ply": "the edited scene, for any splat viewer",
    "cameras.json": "cameras around the scene",
    "origin.npy": "descent of its Gaussians, for blending",
    "parts.npy": "what each Gaussian shows",
    "turntable.mp4": "once around the edit",
    "before_after.mp4": "source and edit, side by side",
    "before_after.png": "source and edit, from all sides",
    "loss.png": "losses and timestep",
    "metrics.json": "the numbers above",
    "run.json": "settings, versions, digests",
}


@cache
def templates() -> jinja2.Environment:
    """The templates; what is put into them is escaped unless it is Markup."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    for name in ("style.css", "viewer.js"):
        text = (TEMPLATES / name).read_text(encoding="utf-8")
        environment.globals[name.partition(".")[0]] = Markup(text)
    return environment


def write_page(template: str, path: str | os.PathLike, **content: Any) -> None:
    """Fill `template` and write it to `path`, whole or not at all."""
    text = templates().get_template(template).render(**content)
    with atomic_path(path) as temporary:
        # A file's name may hold bytes that are no UTF-8; the page shows a question mark for them.
        temporary.write_bytes(text.encode("utf-8", "replace"))


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
        curves=_curves(reports),
        numbers=_numbers(change, metrics),
        times=_times("The run, in seconds", manifest.get("seconds")),
        phases=_times("Its steps, by phase", manifest.get("seconds_by_phase")),
        files=_files(path.parent),
        command=command_line(manifest.get("command")),
        settings=_settings(manifest),
        shown=_shown(before, after, limit),
        before=Markup(pack(before, stand, limit=limit)),
        after=Markup(pack(after, stand, limit=limit)),
        view=stand.settings(antialiased=after.antialiased),
    )


def picture_uri(pixels: np.ndarray, side: int = _PICTURE) -> str:
    """A uint8 picture [H, W, 3] as a data URI, at most `side` pixels large."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "WEBP", quality=86, method=4)
    return _data_uri("image/webp", data.getvalue())


def command_line(command: Sequence[str] | None) -> str | None:
    """The command that makes the same run, as it is typed; None for a run that came from no command."""
    if not command:
        return None
    program = Path(command[0])
    if program.parent.name == "cli":  # python -m gs_ssd.cli.main edit ...
        words = ["gs-ssd", *([] if program.stem == "main" else [program.stem]), *command[1:]]
    elif program.suffix == ".py":
        words = ["python", ("" if program.name == "train.py" else "scripts/") + program.name, *command[1:]]
    else:
        words = ["gs-ssd", *command[1:]]
    # The front door quotes texts for its grammar, and does so again when it is given them plain.
    plain = (re.sub(r"^([\w.]+)='([^'\\]*[A-Za-z/ ][^'\\]*)'$", r"\1=\2", str(word)) for word in words)
    return shlex.join(plain)


def figure(value: Any) -> str:
    """A number as a person reads it: three or four digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _video_uri(path: Path) -> str | None:
    if not path.is_file():
        return None
    if path.stat().st_size <= _VIDEO:
        return _data_uri("video/mp4", path.read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "turntable.mp4"
        smaller_copy(path, copy, side=480)
        if copy.stat().st_size > _VIDEO:
            smaller_copy(path, copy, side=320, crf=34)
        return _data_uri("video/mp4", copy.read_bytes()) if copy.stat().st_size <= 1.5 * _VIDEO else None


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


def _curves(reports: Sequence[StepReport]) -> list[dict[str, Any]]:
    if len(reports) < 2:
        return []
    steps = [report.step for report in reports]
    curves: list[tuple[str, list[float], dict[str, bool]]] = [
        ("Score loss ½‖G‖²/B", [report.loss for report in reports], {"log": True, "smooth": True}),
        ("Anchor loss", [report.anchor_loss for report in reports], {}),
        ("Timestep t", [report.t for report in reports], {}),
    ]
    return [
        {"title": title, "svg": Markup(curve_svg(steps, values, **options))}
        for title, values, options in curves
    ]


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


def _times(title: str, seconds: Mapping[str, float] | None) -> dict[str, Any] | None:
    total = sum((seconds or {}).values())
    if not seconds or total <= 0:
        return None
    parts = [
        {"name": name.replace("_", " "), "seconds": f"{value:.1f} s", "share": round(100 * value / total, 2)}
        for name, value in seconds.items()
    ]
    return {"title": f"{title}: {total:.1f}", "parts": parts}


def _files(folder: Path) -> list[dict[str, str]]:
    rows = []
    for name, what in FILES.items():
        file = folder / name
        # The manifest is the last to be written, after this page.
        if file.is_file() or name == "run.json":
            size = file_size(file.stat().st_size) if file.is_file() else ""
            rows.append({"name": name, "link": name, "what": what, "size": size})
    return rows


def file_size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(round(count / 1e3), 1)} kB"


def _settings(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The configuration and the machine as groups of (dotted name, value)."""
    config = manifest.get("config") or {}
    groups: dict[str, Mapping[str, Any]] = {
        "The run": {k: v for k, v in config.items() if not isinstance(v, Mapping)}
    }
    groups |= {str(name): value for name, value in config.items() if isinstance(value, Mapping)}
    groups["Machine and versions"] = manifest.get("environment") or {}
    groups["Input and memory"] = {
        key: manifest[key] for key in ("input", "output", "peak_memory_mb") if manifest.get(key)
    }
    return [{"name": name, "rows": list(_flat(values))} for name, values in groups.items() if values]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            shown = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
            yield f"{prefix}{name}", shown


def _shown(before: Gaussians, after: Gaussians, limit: int) -> str:
    count = max(len(before), len(after))
    notes = ["Shown without view-dependent colours."] * (after.sh_degree > 0)
    notes += [f"Of {count:,} Gaussians, the {limit:,} that look largest are shown."] * (count > limit)
    return " ".join(notes)
