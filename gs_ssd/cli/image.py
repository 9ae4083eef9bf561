"""`gs-ssd image`: edit a picture with a sentence.

Writes before.png, after.png, progress.png, report.html and run.json to outputs/images/<image>/<prompt>/<time>/.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gs_ssd.cli.app import EXIT_NOT_FINITE, guarded, launch
from gs_ssd.cli.resume import Checkpoints, Kept, asked, recall
from gs_ssd.cli.signals import Signals

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from gs_ssd.session.image import ImageEdit, ImageResult


def main(argv: Sequence[str]) -> int:
    """Edit the picture that the settings describe, or resume a run: `resume=<its folder>`."""
    if path := asked(argv):
        return guarded(partial(resume, path, list(argv)))
    return launch(run, "edit_image", argv)


def run(cfg: DictConfig, signals: Signals) -> int:
    """One edit from file to files; returns the exit code."""
    from gs_ssd.checks import whole
    from gs_ssd.results.folder import check_output_dir, make_output_dir
    from gs_ssd.results.hold import Hold
    from gs_ssd.session.config import check_model, image_edit

    whole("strip", cfg.strip, least=1)
    check_output_dir(cfg.output_dir, [cfg.image])  # before anything is loaded
    with Hold() as hold:
        hold.take(cfg.output_dir)
        check_model(cfg)
        edit = image_edit(cfg)
        assert edit.source is not None
        folder = make_output_dir(cfg.output_dir, scene=f"images/{edit.source.stem}", prompt=cfg.prompt.name)
        hold.take(folder)
        return carry_out(edit, cfg, folder, signals, door="image", command=sys.argv)


def resume(path: str, typed: list[str], signals: Signals) -> int:
    """Go on with an edit that was interrupted; returns the exit code."""
    from gs_ssd.results.hold import Hold
    from gs_ssd.session.config import image_edit

    kept = recall(path, typed, door="image")
    with Hold() as hold:
        hold.take(kept.folder, "resume")
        edit = image_edit(kept.cfg)
        edit.check_and_load(kept.state, kept.about, path)
        return carry_out(edit, kept.cfg, kept.folder, signals, door="image", command=kept.command, kept=kept)


def carry_out(
    edit: ImageEdit,
    cfg: DictConfig,
    folder: Path,
    signals: Signals,
    *,
    door: str,
    command: Sequence[str],
    kept: Kept | None = None,
    pictures: Mapping[str, Callable[[Path], None]] | None = None,
) -> int:
    """Do the steps that are left, write the results; returns the exit code.

    Args:
        command: what began the run.
        kept: where it stood when it was interrupted.
        pictures: further files, each written by a function of its path.
    """
    from gs_ssd.cli.progress import follow
    from gs_ssd.results.image import Strip
    from gs_ssd.session.config import resolved

    config = resolved(cfg)
    strip = Strip(edit.image, num_steps=edit.num_steps, count=cfg.strip)
    if kept is not None:
        strip.pictures = list(kept.state["strip"])
    checkpoints = Checkpoints(
        edit, folder, config=config, command=command, beside=lambda: {"strip": strip.pictures}
    )
    announce(edit)

    def each(report: Any) -> None:
        strip(report)
        checkpoints(report)

    outcome = follow(
        edit, done=edit.step, total=edit.num_steps, name=edit.guidance.name, signals=signals, each=each
    )
    checkpoints.stop(outcome)
    result = edit.finish()
    words = "  >  ".join(words for words in (edit.prompts.source, edit.prompts.target) if words)
    own = {"progress.png": lambda path: strip.save(words, path)} | dict(pictures or {})
    result.save(folder, command=command, config=config, pictures=own)
    checkpoints.finish(outcome)
    summarise(result, folder, [*own])
    if outcome.stopped and edit.step < edit.num_steps:
        print(f"resume   gs-ssd {door} resume={folder}")
    if outcome.error is not None:
        print(f"error: {outcome.error}; results are those so far", file=sys.stderr)
        return EXIT_NOT_FINITE
    return 0


def announce(edit: ImageEdit) -> None:
    """Say what is done."""
    height, width = edit.before.shape[1:3]
    size, target = f"({width}x{height} pixels)", repr(edit.prompts.target)
    if edit.prompts.source is None:
        print(f"{target} {size} from noise", flush=True)
    else:
        name = edit.source.stem if edit.source is not None else "the picture"
        print(f"{name} {size}: {edit.prompts.source!r} → {target}", flush=True)
    if edit.step:
        print(f"resumed  at step {edit.step} of {edit.num_steps}", flush=True)


def summarise(result: ImageResult, folder: Path, pictures: Sequence[str]) -> None:
    """What was written where."""
    made = result.prompts.source is None
    change = "" if made else f"; mean pixel change {result.change:.3f}"
    shown = [*pictures] if made else ["before.png", *pictures]
    print(
        f"{'made' if made else 'edited':<9}{len(result.reports)} of {result.num_steps} steps in "
        f"{result.seconds:.0f} s{change}\n"
        f"image    {folder / ('image.png' if made else 'after.png')}\n"
        f"pictures {', '.join(str(folder / name) for name in shown)}\n"
        f"report   {folder / 'report.html'}, {folder / 'run.json'}"
    )
