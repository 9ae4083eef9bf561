"""What the pages of results share: templates, pictures, curves, times, files, settings, the command."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from gs_ssd.edit.loop import StepReport
from gs_ssd.files import atomic_path
from gs_ssd.results.curves import curve_svg

TEMPLATES = Path(__file__).parent / "templates"
_PICTURE = 640  # pixels of a picture's longer side

FILES = {
    "edited.ply": "the edited scene, for any splat viewer",
    "before.png": "the picture as it was read",
    "after.png": "the picture as it was edited",
    "image.png": "the picture that was made",
    "progress.png": "how it came about",
    "decomposition.png": "what the noise predictions consist of",
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


def picture_uri(pixels: np.ndarray, side: int = _PICTURE) -> str:
    """A uint8 picture [H, W, 3] as a data URI, at most `side` pixels large."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "WEBP", quality=86, method=4)
    return data_uri("image/webp", data.getvalue())


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


def data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def curves(reports: Sequence[StepReport]) -> list[dict[str, Any]]:
    if len(reports) < 2:
        return []
    steps = [report.step for report in reports]
    shown: list[tuple[str, list[float], dict[str, bool]]] = [
        ("Score loss ½‖G‖²/B", [report.loss for report in reports], {"log": True, "smooth": True}),
        ("Anchor loss", [report.anchor_loss for report in reports], {}),
        ("Timestep t", [report.t for report in reports], {}),
    ]
    shown = [curve for curve in shown if any(curve[1])]  # without anchors there is no anchor loss
    return [
        {"title": title, "svg": Markup(curve_svg(steps, values, **options))}
        for title, values, options in shown
    ]


def times(title: str, seconds: Mapping[str, float] | None) -> dict[str, Any] | None:
    total = sum((seconds or {}).values())
    if not seconds or total <= 0:
        return None
    parts = [
        {"name": name.replace("_", " "), "seconds": f"{value:.1f} s", "share": round(100 * value / total, 2)}
        for name, value in seconds.items()
    ]
    return {"title": f"{title}: {total:.1f}", "parts": parts}


def files(folder: Path) -> list[dict[str, str]]:
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


def earlier(folder: Path, edits: Sequence[Mapping[str, Any]] | None) -> list[dict[str, str | None]]:
    """The edits before this one (`gs_ssd.results.earlier`), the first one first: words, command, link to the report."""
    rows = []
    for edit in edits or ():
        said = edit.get("prompts") or {}
        report = Path(str(edit.get("run"))) / "report.html"
        rows.append(
            {
                "source": said.get("source") or "nothing",
                "target": said.get("target"),
                "command": command_line(edit.get("command")),
                "link": quote(os.fsencode(os.path.relpath(report, folder))) if report.is_file() else None,
            }
        )
    return rows


def settings(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
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
