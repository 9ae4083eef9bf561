"""`gs-ssd image`: edit a picture with a sentence.

Writes before.png, after.png, progress.png and run.json to outputs/images/<image>/<prompt>/<time>/.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gs_ssd.cli.app import EXIT_NOT_FINITE, launch
from gs_ssd.cli.signals import Signals

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(argv: Sequence[str]) -> int:
    """Edit the picture that the settings describe."""
    return launch(run, "edit_image", argv)


def run(cfg: DictConfig, signals: Signals) -> int:
    """One edit from file to files; returns the exit code."""
    from gs_ssd.checks import whole
    from gs_ssd.results.folder import check_output_dir, make_output_dir
    from gs_ssd.session.config import check_model, image_edit, resolved

    count = whole("strip", cfg.strip, least=1)
    check_output_dir(cfg.output_dir, [cfg.image])  # before anything is loaded
    check_model(cfg)
    from gs_ssd.cli.progress import follow
    from gs_ssd.results.image import Strip

    edit = image_edit(cfg)
    assert edit.source is not None
    name = edit.source.expanduser().stem
    folder = make_output_dir(cfg.output_dir, scene=f"images/{name}", prompt=cfg.prompt.name)
    height, width = edit.before.shape[1:3]
    print(f"{name} ({width}x{height} pixels): {edit.prompts.source!r} → {edit.prompts.target!r}", flush=True)
    strip = Strip(edit.image, num_steps=edit.num_steps, count=count)
    outcome = follow(edit, done=0, total=edit.num_steps, name=edit.guidance.name, signals=signals, each=strip)
    result = edit.finish()
    result.save(folder, command=sys.argv, config=resolved(cfg))
    strip.save(f"{edit.prompts.source}  >  {edit.prompts.target}", folder / "progress.png")
    summarise(len(result.reports), edit.num_steps, result.seconds, result.change, folder)
    if outcome.error is not None:
        print(f"error: {outcome.error}; results are those so far", file=sys.stderr)
        return EXIT_NOT_FINITE
    return 0


def summarise(done: int, asked: int, seconds: float, change: float, folder: Path) -> None:
    """What was written where."""
    print(
        f"edited   {done} of {asked} steps in {seconds:.0f} s; mean pixel change {change:.3f}\n"
        f"image    {folder / 'after.png'}\n"
        f"pictures {folder / 'before.png'}, {folder / 'progress.png'}\n"
        f"report   {folder / 'run.json'}"
    )
