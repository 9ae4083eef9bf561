"""One run of an evaluation, a scene or a picture: edited, measured, written, and marked as finished."""

from __future__ import annotations

import json
import os
import platform
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import torch

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.errors import NonFiniteError, UserError
from gs_ssd.evaluation import images, truths
from gs_ssd.evaluation.runs import Run, Stopped, pull
from gs_ssd.results.manifest import write_json
from gs_ssd.session.config import build, measures_of, pick_device, recalled, scene_edit, videos_of

RESUMES = "the same command resumes where this one stopped"


def attempt(run: Run, threads: int, place: str, stop: Callable[[], bool] = lambda: False) -> str | None:
    """Do one run in a process that was started for it; returns what the user must mend, None where there is nothing.

    Args:
        threads: of the processor.
        place: the folder that the command was typed in, from which relative paths count.
    """
    torch.set_num_threads(threads)
    try:
        os.chdir(place)
    except OSError as error:
        return (
            f"{platform.node()} has no folder {place} ({error.strerror}); all machines must share the disk that the "
            f"command and its output_dir lie on. Finished runs are kept, and {RESUMES}"
        )
    try:
        execute(run, stop=stop)
    except UserError as error:
        return str(error)
    return None


def execute(
    run: Run, *, prior: DiffusionPrior | None = None, stop: Callable[[], bool] = lambda: False
) -> None:
    """Do one run in this process; what it prints, warns of and fails by goes to its log.txt.

    Args:
        prior: edits by this one instead of what the settings name.
        stop: asked after every step; where it says so, the run is left unfinished.

    Raises UserError for bad input, and where its folder can't be written.
    """
    name, begun = f"{run.variant} on {run.case.scene}, {run.case.prompt}", time.perf_counter()
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / "finished.json").unlink(missing_ok=True)
        with (
            open(run.folder / "log.txt", "w", encoding="utf-8") as log,
            redirect_stdout(log),
            redirect_stderr(log),
        ):
            trouble = _logged(run, lambda: prior or shared_prior(run.config), stop)
    except Stopped:
        return
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except OSError as error:
        raise UserError(
            f"{name}: {error.filename or run.folder} on {platform.node()}: {error.strerror or error}; is its disk "
            f"full, or gone? Finished runs are kept, and {RESUMES}"
        ) from error
    said = None if trouble is None else str(trouble)
    done = {"key": run.key, "diverged": trouble is not None, "error": said}
    write_json(done | {"seconds": time.perf_counter() - begun}, run.folder / "finished.json")


def _logged(run: Run, load: Callable[[], DiffusionPrior], stop: Callable[[], bool]) -> NonFiniteError | None:
    """Edit and measure; the log's last line says what ended it early, which is returned or raised."""
    do_case = _edit_scene if run.case.picture is None else images.edit_picture
    try:
        trouble = do_case(run, load, stop)
    except UserError as error:
        print(f"error: {error}")
        raise
    except Stopped:
        raise
    except Exception:
        traceback.print_exc()
        raise
    if trouble is not None:
        print(f"error: {trouble}")
    return trouble


class Kept:
    """The prior that this process used last: it is loaded once for all the runs that share it."""

    name: str | None = None
    prior: DiffusionPrior | None = None


def shared_prior(config: Mapping[str, Any]) -> DiffusionPrior:
    """The prior that a run's settings name."""
    name = json.dumps([config["diffusion"], config["device"]], sort_keys=True)
    if Kept.prior is None or Kept.name != name:
        Kept.prior = None  # a GPU may not hold two
        Kept.prior = build(recalled(config), "diffusion", device=pick_device(config["device"]))
        Kept.name = name
    return Kept.prior


def _edit_scene(
    run: Run, load: Callable[[], DiffusionPrior], stop: Callable[[], bool]
) -> NonFiniteError | None:
    """Edit, measure and write; returns what ended the edit early."""
    cfg = recalled(run.config)
    edit = scene_edit(cfg, load)
    trouble = pull(edit, stop)
    result = edit.finish(measures_of(cfg))
    if run.measured.get("truth"):
        result.metrics.update(truths.measure(result, scene=run.case.scene, prompt=run.case.prompt))
    result.save(run.folder, videos=videos_of(cfg, edit.scene), config=run.config)
    return trouble
