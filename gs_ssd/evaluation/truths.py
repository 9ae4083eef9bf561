"""The truth of an edit of a sample head: the generator of the heads can paint the costume on the same head.

The generator, scripts/workshop, made the sample scenes and is not installed with the package; without it there is no
`way` column.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gs_ssd.assets import ROOT
from gs_ssd.metrics.truth import way
from gs_ssd.render.coverage import coverage
from gs_ssd.samples import SUBJECTS
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.formats import load_gaussians
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.parts import PARTS, load_parts
from gs_ssd.scene.views import turntable
from gs_ssd.session.result import EditResult

DETAIL = 1.1  # of the discs, as in data/scenes
VIEWS, SIZE, ELEVATION, FOV = 12, 128, 5.0, 40.0
FRONT = (0, 1, VIEWS - 1)
DRAWS = 8  # of a costume with random choices; the nearest to the edit is the truth
RANDOM = ("marble", "zombie")  # veins; wounds
# Prompts that are no costume, as what they change in a head.
SUBTLE: dict[str, dict[str, Any]] = {
    "mustache": {"beard": "mustache"},
    "beard": {"beard": "beard"},
    "red_hair": {"hair": "red"},
    "long_hair": {"style": "long", "hair": "brown"},
    "sunglasses": {"eyewear": "sunglasses"},
    "hat": {"hat": "red"},
}
OUTLINES = ("outline", "outline_before", "outline_source")
UNKNOWN: dict[str, float | None] = dict.fromkeys(("way", "way_front", *OUTLINES))
MISSING = (
    "No way columns: the generator of the sample heads, scripts/workshop, is not installed with the package; "
    "run from a checkout."
)


def available() -> bool:
    return (ROOT / "scripts" / "workshop" / "make_face_scene.py").is_file()


@torch.no_grad()
def measure(result: EditResult, *, scene: str, prompt: str) -> dict[str, float | None]:
    """What an edit of the sample `scene` by a ready-made prompt is beside the truth; None where none is known.

    way, way_front           see `gs_ssd.metrics.truth`; from all around, and from the front
    outline, outline_before  intersection over union of the figure's outline with the truth's: of the edit, and of
                             the source; of several truths the first one's
    outline_source           of the edit's outline with the source's
    """
    heads = truths(scene, prompt) if available() and scene in SUBJECTS else []
    if not heads:
        return dict(UNKNOWN)
    cameras = turntable(
        result.scene.frame,
        VIEWS,
        size=SIZE,
        elevation_degrees=ELEVATION,
        front_azimuth_degrees=result.scene.front_azimuth_degrees,
        fov_degrees=FOV,
    ).to(result.before.device)

    def pictures(gaussians: Gaussians) -> Tensor:
        return _pictures(result, gaussians, cameras)

    source, edit = pictures(result.before), pictures(result.after)
    truth = torch.stack([pictures(head.to(result.before.device)) for head in heads])
    covered = coverage(result.before, result.editable, cameras)
    subtle, front = prompt in SUBTLE, list(FRONT)
    return outlines(result, heads[0], cameras) | {
        "way": way(source=source, edit=edit, truth=truth, coverage=covered, subtle=subtle),
        "way_front": way(
            source=source[front],
            edit=edit[front],
            truth=truth[:, front],
            coverage=covered[front],
            subtle=subtle,
        ),
    }


def outlines(result: EditResult, truth: Gaussians, cameras: Cameras) -> dict[str, float | None]:
    """The values of OUTLINES; None without the scene's part labels, which tell the figure from the studio."""
    if result.scene.parts is None:
        return dict.fromkeys(OUTLINES)
    labels = load_parts(result.scene.parts, count=len(result.before))
    figure = (labels != PARTS.index("studio")).to(result.before.device)
    truth = truth.to(result.before.device)
    painted = torch.arange(len(truth), device=figure.device) < len(truth) - int(
        (~figure).sum()
    )  # the studio is last
    target = coverage(truth, painted, cameras) > 0.5
    source = coverage(result.before, figure, cameras) > 0.5
    edit = coverage(result.after, figure[result.origin], cameras) > 0.5
    return {
        "outline": _overlap(edit, target),
        "outline_before": _overlap(source, target),
        "outline_source": _overlap(edit, source),
    }


def _overlap(a: Tensor, b: Tensor) -> float:
    return ((a & b).sum() / (a | b).sum()).item()


def _pictures(result: EditResult, gaussians: Gaussians, cameras: Cameras) -> Tensor:
    views = [result.renderer(gaussians, cameras[i]).rgb for i in range(len(cameras))]
    return torch.cat(views).clamp(0, 1)


@lru_cache(maxsize=2)
def truths(scene: str, prompt: str) -> list[Gaussians]:
    """The sample `scene` as the generator paints it for `prompt`: draws, where it has choices; [] where it can't."""
    with _checkout():
        generator = import_module("scripts.workshop.make_face_scene")
        attributes = import_module("scripts.workshop.heads.attributes")
    head = generator.SCENES[scene]
    if prompt in SUBTLE:
        head = replace(head, **SUBTLE[prompt])
    elif prompt in attributes.COSTUMES:
        head = attributes.wear(head, prompt)
    else:
        return []
    seeds = [head.paint_seed + draw for draw in range(DRAWS if prompt in RANDOM else 1)]
    painted = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "truth.ply"
        for seed in seeds:
            generator.write_ply(path, *generator.discs(replace(head, paint_seed=seed), DETAIL))
            painted.append(load_gaussians(path))
    return painted


@contextmanager
def _checkout() -> Iterator[None]:
    """Modules of the checkout's scripts/ can be imported."""
    sys.path.insert(0, str(ROOT))
    try:
        yield
    finally:
        sys.path.remove(str(ROOT))
