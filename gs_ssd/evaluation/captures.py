"""What is edited in 3D: sample scenes with ready-made prompts, or a folder of captures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from gs_ssd.errors import UserError
from gs_ssd.evaluation.runs import Case
from gs_ssd.scene.datasets import load_cameras
from gs_ssd.session.shorthands import options, quoted

# What captures hold that is no splat: the trainers' inputs, and COLMAP's dense reconstructions.
POINT_CLOUDS = (
    *("points3D.ply", "input.ply", "sparse_pc.ply"),
    *("fused.ply", "meshed-poisson.ply", "meshed-delaunay.ply"),
)
COLUMNS = ("scene", "prompt", "source", "target")
OPTIONAL = ("mask", "settings")


def cases(cfg: DictConfig) -> list[Case]:
    """The scenes and prompts: those of `data`, where a folder is given, else the sample scenes."""
    if cfg.data is not None:
        check_captures(cfg.captures)
        found = captured_cases(Path(str(cfg.data)).expanduser(), cfg.captures)
        check_masks(found, [name for name in cfg.needs_mask if cfg.guidance == "all" or name in cfg.guidance])
        return found
    for group, names in (("scene", cfg.scenes), ("prompt", cfg.prompts)):
        if not isinstance(names, ListConfig) or not names:
            raise UserError(f"{group}s={names} must be a list, such as {group}s=[{options(group)[0]}]")
    return [Case(s, p, (f"scene={s}", f"prompt={p}")) for s in cfg.scenes for p in cfg.prompts]


def check_captures(captures: Any) -> None:
    """Raise UserError unless `captures` lists entries of four texts, with prompts that differ."""
    if not isinstance(captures, ListConfig) or not captures:
        raise UserError(f"captures={captures} must be a list of {{{', '.join(COLUMNS)}}}")
    for number, capture in enumerate(captures, start=1):
        name = f"captures, entry {number} ({capture})"
        if not isinstance(capture, DictConfig):
            raise UserError(f"{name} must have {', '.join(COLUMNS)}")
        if unknown := [str(key) for key in capture if key not in (*COLUMNS, *OPTIONAL)]:
            raise UserError(f"{name}: {unknown[0]} is none of {', '.join((*COLUMNS, *OPTIONAL))}")
        for column in (*COLUMNS, "mask"):
            value = capture.get(column)
            if value is None and column in OPTIONAL:
                continue
            if not isinstance(value, str) or not value.strip():
                wrong = "is missing" if value is None else f"is {value!r}"
                raise UserError(f"{name}: {column} {wrong}, expected a text")
        settings = capture.get("settings")
        if settings is not None and not (
            isinstance(settings, ListConfig) and all(isinstance(s, str) for s in settings)
        ):
            raise UserError(f"{name}: settings must be a list, such as [densify.stop=1201]")
        if capture.source.strip().lower() == capture.target.strip().lower():
            raise UserError(f"{name}: target equals source, so there is nothing to edit; change one")


def check_masks(cases: Iterable[Case], variants: Sequence[str]) -> None:
    """Raise UserError for a capture without a mask, where one of the `variants` compared edits inside a mask."""
    for case in cases:
        masked = any(re.match(r"\+*(scene\.)?mask\b", s) for s in (*case.overrides, *case.settings))
        if variants and not masked:
            raise UserError(
                f"{variants[0]} edits inside a mask, and the capture {case.scene}, {case.prompt} has none; give it "
                "mask: <a file in its folder> or settings: [mask=text, mask.words=...] in captures=, or leave "
                f"{variants[0]} out of guidance="
            )


def captured_cases(data: Path, captures: Iterable[DictConfig]) -> list[Case]:
    """The listed captures that lie in `data`: folders of the scene's name with a splat and its cameras.

    A capture's `mask` is a file in its folder, as configs/mask/file.yaml reads it; its `settings` are an edit's.
    """
    if not data.is_dir():
        raise UserError(f"data={data}: no such folder; it should hold a folder per scene")
    found = []
    for capture in captures:
        folder = data / capture.scene
        if not folder.is_dir():
            continue
        load_cameras(folder)  # are they there? Before anything is edited
        settings = [
            f"scene.path={find_splat(folder)}",
            f"scene.cameras={folder}",
            f"prompt.source={capture.source}",
            f"prompt.target={capture.target}",
            f"scene.name={capture.scene}",
            f"prompt.name={capture.prompt}",
        ]
        if capture.get("mask") is not None:
            mask = folder / capture.mask
            if not mask.is_file():
                raise UserError(
                    f"{mask}: no such file; the capture {capture.scene}, {capture.prompt} names it as its mask"
                )
            settings += [
                "scene.mask._target_=gs_ssd.scene.masks.File",
                f"+scene.mask.path={quoted(str(mask))}",
            ]
        found.append(
            Case(capture.scene, capture.prompt, tuple(settings), tuple(capture.get("settings") or ()))
        )
    if not found:
        names = ", ".join(dict.fromkeys(capture.scene for capture in captures))
        raise UserError(f"data={data} holds none of this experiment's scenes; it should have folders {names}")
    return found


def find_splat(folder: Path) -> Path:
    """The splat in or under a capture's folder; of point_cloud/iteration_* the longest trained. Raises UserError."""
    files = [file for kind in (".ply", ".splat", ".spz") for file in folder.rglob(f"*{kind}")]
    splats = [file for file in files if file.name not in POINT_CLOUDS]
    if not splats:
        raise UserError(f"{folder}: holds no splat (.ply, .splat or .spz); train one and put it there")
    return max(splats, key=lambda file: [int(n) for n in re.findall(r"\d+", str(file.relative_to(folder)))])
