"""`gs-ssd edit`, and `python train.py`: one edit from files to files."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gs_ssd.checks import whole
from gs_ssd.cli.app import EXIT_NO_EDIT, EXIT_NOT_FINITE, first_rank, guarded, launch
from gs_ssd.cli.resume import Checkpoints, asked, recall
from gs_ssd.cli.signals import Interrupted, Signals

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from gs_ssd.cli.progress import Outcome
    from gs_ssd.session.edit import SceneEdit
    from gs_ssd.session.result import EditResult
    from gs_ssd.studio.gate import Gate


def main(argv: Sequence[str]) -> int:
    """Edit the scene that the settings describe, or resume a run: `resume=<its folder>`."""
    if path := asked(argv):
        return guarded(partial(resume, path, list(argv)))
    return launch(run, "train", argv)


def run(cfg: DictConfig, signals: Signals) -> int:
    """One edit; returns the exit code."""
    from gs_ssd.checks import switch
    from gs_ssd.results.folder import check_output_dir, make_output_dir
    from gs_ssd.results.hold import Hold
    from gs_ssd.session.config import check_model, scene_edit

    switch("no_edit_guard", cfg.no_edit_guard)
    inputs = (cfg.scene.path, cfg.scene.cameras)
    if cfg.stop_after is not None:
        whole("stop_after", cfg.stop_after, least=1)
    with Hold() as hold:
        if first_rank():  # before anything is loaded
            check_output_dir(cfg.output_dir, inputs)
            hold.take(cfg.output_dir)
        check_model(cfg)
        from gs_ssd.ranks import joined

        gate = gate_of(cfg)
        with joined() as ranks:
            edit = scene_edit(cfg, ranks=ranks)
            if not ranks.first:
                return 0 if cfg.preview is not None else take_part(edit, signals)
            names = {"scene": cfg.scene.name, "prompt": cfg.prompt.name}
            folder = make_output_dir(cfg.output_dir, **names, inputs=inputs)
            hold.take(folder)
            if cfg.preview is not None:
                return show_selection(edit, cfg, folder)
            return carry_out(edit, cfg, folder, signals, gate, command=sys.argv)


def show_selection(edit: SceneEdit, cfg: DictConfig, folder: Path) -> int:
    """Write a picture of what the edit may change, from four sides, instead of editing."""
    import torch

    from gs_ssd.checks import choice
    from gs_ssd.results.pictures import contact_sheet
    from gs_ssd.scene.masks import preview

    choice("preview", cfg.preview, ["selection"])
    with torch.no_grad():
        cameras = edit.scene.turn(4).to(edit.device)
        pictures = preview(edit.before, edit.editable, cameras, edit.renderer).cpu()
    chosen = int(edit.editable.sum())
    label = f"{chosen:,} of {len(edit.scene):,} Gaussians may change"
    contact_sheet([(label, pictures)], folder / "selection.png")
    print(f"{label}\npicture  {folder / 'selection.png'}")
    return 0


def resume(path: str, typed: list[str], signals: Signals) -> int:
    """Go on with a run that was interrupted; returns the exit code."""
    from gs_ssd.ranks import joined
    from gs_ssd.results.hold import Hold
    from gs_ssd.session.config import scene_edit

    kept = recall(path, typed, door="edit")
    with Hold() as hold:
        if first_rank():
            hold.take(kept.folder, "resume")
        gate = gate_of(kept.cfg)
        with joined() as ranks:
            edit = scene_edit(kept.cfg, ranks=ranks)
            edit.check_and_load(kept.state, kept.about, path)
            if not ranks.first:
                return take_part(edit, signals)
            return carry_out(edit, kept.cfg, kept.folder, signals, gate, command=kept.command)


def gate_of(cfg: DictConfig) -> Gate | None:
    """Where the page of `viewer=` will be, taken before any work is done; None: there is none."""
    from gs_ssd.cli.app import several_ranks
    from gs_ssd.cli.studio import StudioSettings, open_gate
    from gs_ssd.errors import UserError

    viewer = cfg.get("viewer", False)
    if viewer is False or viewer is None:
        return None
    port = StudioSettings.port if viewer is True else whole("viewer", viewer, least=0, most=65535)
    if several_ranks():
        raise UserError(f"viewer={viewer} shows an edit of one process; start it without torchrun")
    return open_gate(StudioSettings.host, port, "viewer")


@contextmanager
def watched(
    edit: SceneEdit, cfg: DictConfig, folder: Path, signals: Signals, gate: Gate | None
) -> Iterator[Callable[[], None]]:
    """The edit with its page, if there is to be one; yields what is called after every step."""
    if gate is None:
        yield lambda: None
        return
    from gs_ssd.studio.viewer import beside

    with beside(edit, cfg, gate, folder) as go_on:
        print(f"viewer   {gate.url}", flush=True)

        def each() -> None:
            signals.requested |= not go_on(lambda: signals.requested)

        yield each


def carry_out(
    edit: SceneEdit,
    cfg: DictConfig,
    folder: Path,
    signals: Signals,
    gate: Gate | None = None,
    *,
    command: Sequence[str],
) -> int:
    """Do the steps that are left, write the results; returns the exit code. `command` is what began the run."""
    announce(edit)
    with watched(edit, cfg, folder, signals, gate) as each:
        outcome, result = pulled(edit, cfg, folder, signals, each, command)
    return judge(result, outcome, guard=cfg.no_edit_guard)


def pulled(
    edit: SceneEdit,
    cfg: DictConfig,
    folder: Path,
    signals: Signals,
    each: Callable[[], None],
    command: Sequence[str],
) -> tuple[Outcome, EditResult]:
    """Do the steps, with `each` after every one, and write the results."""
    from gs_ssd.cli.progress import follow
    from gs_ssd.session.config import measures_of, resolved, videos_of

    config = resolved(cfg)
    checkpoints = Checkpoints(edit, folder, config=config, command=command, every=cfg.checkpoint.every)
    last = cfg.get("stop_after")

    def keep(report: Any) -> None:
        each()
        signals.requested |= edit.step == last
        signals.requested = edit.ranks.any(signals.requested)  # all stop after the same step
        checkpoints(report)

    with together(edit, signals, str(folder)):
        outcome = follow(
            edit, done=edit.step, total=edit.num_steps, name=edit.guidance.name, signals=signals, each=keep
        )
    checkpoints.stop(outcome)
    begun = time.perf_counter()
    result = edit.finish(measures_of(cfg))
    result.save(folder, videos=videos_of(cfg, edit.scene), command=command, config=config)
    checkpoints.finish(outcome)
    summarise(result, folder, time.perf_counter() - begun, resumable=outcome.stopped)
    return outcome, result


def take_part(edit: SceneEdit, signals: Signals) -> int:
    """Do this rank's share of the steps; rank 0 does all else. Returns the exit code."""
    from gs_ssd.errors import NonFiniteError

    signals.finish_first("")
    with together(edit, signals):
        try:
            for _ in edit:
                if edit.ranks.any(signals.requested):
                    break
        except NonFiniteError:  # which all ranks see
            return EXIT_NOT_FINITE
    return 0


@contextmanager
def together(edit: SceneEdit, signals: Signals, folder: str = "") -> Iterator[None]:
    """Steps that all ranks do; where one of them ends, so do the others, with what to do about it."""
    from gs_ssd.errors import RankLostError

    signals.aloud = edit.ranks.size == 1
    folder = edit.ranks.from_first(folder)
    edit.check_ranks()
    try:
        yield
    except RankLostError as lost:
        raise Interrupted(
            f"{lost} after step {edit.step} of {edit.num_steps}; the last checkpoint, if any, is kept: start torchrun "
            f"with resume={folder}"
        ) from lost


def announce(edit: SceneEdit) -> None:
    """Say what is done, and what the first step waits for."""
    from gs_ssd.render import compile_kernels, kernels_are_compiled

    start = "a random ball" if edit.prompts.source is None else repr(edit.prompts.source)
    print(f"{edit.scene.name} ({len(edit.scene):,} Gaussians): {start} → {edit.prompts.target!r}", flush=True)
    if edit.ranks.size > 1:
        print(
            f"{edit.ranks.size} ranks share the {edit.settings['views_per_step']} views of a step", flush=True
        )
    if edit.step:
        print(f"resumed  at step {edit.step} of {edit.num_steps}", flush=True)
    if edit.device.type == "cpu" and not kernels_are_compiled():
        print("compiling the CPU kernels, once: about a minute", file=sys.stderr, flush=True)
        compile_kernels()  # not within the first step, whose time the ETA would take for every step's


def summarise(result: EditResult, folder: Path, writing: float, *, resumable: bool) -> None:
    """What was written where."""
    assert result.change is not None
    steps = len(result.reports)
    judged = "".join(
        f", {label} {result.metrics[name]:.2f}"
        for name, label in (("retrieval_top1", "retrieval"), ("clip_direction", "direction"))
        if result.metrics[name] is not None
    )
    print(
        f"edited   {steps} of {result.num_steps} steps in {result.seconds:.0f} s "
        f"({1000 * result.seconds / max(steps, 1):.0f} ms per step), {len(result.after):,} Gaussians; "
        f"results in {writing:.0f} s\n"
        f"scene    {folder / 'edited.ply'}\n"
        f"pictures {folder / 'before_after.png'}, {folder / 'loss.png'}\n"
        f"videos   {folder / 'turntable.mp4'}, {folder / 'before_after.mp4'}\n"
        f"report   {folder / 'report.html'}, {folder / 'run.json'}, {folder / 'metrics.json'}: "
        f"mean pixel change {result.change.mean:.3f}{judged}"
        + (f"\nresume   gs-ssd edit resume={folder}" if resumable else "")
    )


def judge(result: EditResult, outcome: Outcome, *, guard: bool) -> int:
    """The exit code of a run whose results are written."""
    if outcome.error is not None:
        print(
            f"error: {outcome.error}; stopped before it reached the scene, results are those so far",
            file=sys.stderr,
        )
        return EXIT_NOT_FINITE
    assert result.change is not None
    if guard and not result.change.visible and not outcome.stopped:
        print(
            f"error: the edit changed next to nothing: {result.change}; raise steps or the learning rates, or use a "
            "prompt and a prior that know the subject (no_edit_guard=false turns this check off)",
            file=sys.stderr,
        )
        return EXIT_NO_EDIT
    return 0
