"""index.html over many runs (a sweep, an evaluation): a card per run that shows it and links its report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import imageio_ffmpeg
import numpy as np
from PIL import Image

from gs_ssd.errors import UserError
from gs_ssd.results.folder import MANIFEST
from gs_ssd.results.page import figure, picture_uri, write_page

SHOWN = ("clip_direction", "retrieval_top1", "clip_similarity", "unedited_psnr", "source_psnr", "seconds")
_SAME = ("output_dir", "name")  # settings that differ between any two runs and say nothing


def write_contact_sheet(
    folder: str | os.PathLike, runs: Sequence[str | os.PathLike], title: str = ""
) -> Path:
    """Write <folder>/index.html over the folders `runs`, in their order; returns its path.

    A card has the run's picture, the settings in which the runs differ, its numbers and a link to its report. A run
    that left no results gets a card that says so. Raises UserError where there are no runs.
    """
    folder, places = Path(folder), [Path(run) for run in runs]
    if not places:
        raise UserError(f"{folder}: no runs to show")
    manifests = [_json(run / "run.json") for run in places]
    settings = [_flat(manifest.get("config") or {}) for manifest in manifests]
    varied = _varied(settings)
    path = folder / "index.html"
    cards = [
        _card(run, folder, manifest, [f"{name}={chosen[name]}" for name in varied if name in chosen])
        for run, manifest, chosen in zip(places, manifests, settings)
    ]
    write_page(
        "contact_sheet.html",
        path,
        title=title or folder.resolve().name,
        shared=_shared(settings),
        cards=cards,
        orders=[name for name in SHOWN if any(name in card["numbers"] for card in cards)],
    )
    return path


def runs_since(root: Path, started: float) -> list[Path]:
    """The folders under `root` of the runs that ended since `started` (seconds of `time.time`), in that order."""
    ended = {manifest.parent: manifest.stat().st_mtime for manifest in root.rglob(MANIFEST)}
    return sorted((run for run, end in ended.items() if end >= started - 1), key=lambda run: ended[run])


def _card(run: Path, folder: Path, manifest: Mapping[str, Any], settings: list[str]) -> dict[str, Any]:
    numbers = {
        name: value
        for name, value in _json(run / "metrics.json").items()
        if name in SHOWN and isinstance(value, int | float)
    }
    prompt = (manifest.get("config") or {}).get("prompt") or {}
    report = run / "report.html"
    target = report if report.is_file() else run if run.is_dir() else None
    return {
        "title": str(prompt.get("target") or run.name),
        "settings": settings,
        "note": "" if manifest else "This run has no results: it failed or was stopped.",
        "picture": _picture(run),
        "link": quote(Path(os.path.relpath(target, folder)).as_posix()) if target else None,
        "numbers": numbers,
        "rows": [(name, figure(numbers[name])) for name in SHOWN if name in numbers],
    }


def _picture(run: Path) -> str | None:
    """The run in one picture, as a data URI: source and edit from the front, or the edited image."""
    try:
        if (run / "before_after.mp4").is_file():
            frames = imageio_ffmpeg.read_frames(str(run / "before_after.mp4"))
            try:
                width, height = next(frames)["size"]
                pixels = np.frombuffer(next(frames), np.uint8).reshape(height, width, 3)
            finally:
                frames.close()
            return picture_uri(pixels, side=480)
        for name in ("after.png", "image.png", "before_after.png"):
            if (run / name).is_file():
                with Image.open(run / name) as image:
                    return picture_uri(np.asarray(image.convert("RGB")), side=480)
    except (OSError, RuntimeError, StopIteration):  # a file that was cut short; the card goes without it
        pass
    return None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted names and their values as text."""
    flat: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif name == "_target_":  # guidance._target_=gs_ssd.guidance.ssd.SSD reads as guidance=SSD
            flat[prefix.removesuffix(".")] = str(value).rpartition(".")[2]
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat


def _varied(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """The names of settings that have several values among the runs, at most eight."""
    known = [chosen for chosen in settings if chosen]
    names = dict.fromkeys(name for chosen in known for name in chosen)
    return [
        name
        for name in names
        if len({chosen.get(name) for chosen in known}) > 1 and name.rpartition(".")[2] not in _SAME
    ][:8]


def _shared(settings: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """What all runs have in common, of what a reader asks first."""
    known = [chosen for chosen in settings if chosen]
    facts = []
    for label, name in (("scene", "scene.name"), ("steps", "steps"), ("target", "prompt.target")):
        values = {chosen.get(name) for chosen in known}
        if len(values) == 1 and (value := values.pop()) is not None:
            facts.append((label, value))
    return facts
