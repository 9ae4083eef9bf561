"""The processes that do an evaluation's runs; scenes and pictures alike."""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event
from threading import Thread
from typing import Any

import torch
from tqdm import tqdm

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.errors import NonFiniteError, UserError
from gs_ssd.evaluation import images, truths
from gs_ssd.evaluation.runs import Run, Stopped
from gs_ssd.results.manifest import write_json
from gs_ssd.session.config import build, measures_of, pick_device, recalled, scene_edit, videos_of

TERMINALS = [getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]  # sent to all
SIGNALS = [*TERMINALS, signal.SIGTERM]
MASKABLE = hasattr(signal, "pthread_sigmask")  # Unix
RESUMES = "the same command resumes where this one stopped"


def execute(
    run: Run, *, prior: DiffusionPrior | None = None, stop: Callable[[], bool] = lambda: False
) -> None:
    """Do one run in this process; what it prints, warns of and fails by goes to its log.txt.

    Args:
        prior: edits by this one instead of what the settings name.
        stop: asked after every step; where it says so, the run is left unfinished.

    Raises UserError for bad input.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "finished.json").unlink(missing_ok=True)
    do_case = _edit_scene if run.case.picture is None else images.edit_picture
    with (
        open(run.folder / "log.txt", "w", encoding="utf-8") as log,
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        try:
            trouble = do_case(run, lambda: prior or shared_prior(run.config), stop)
        except Stopped:
            return
        except UserError as error:
            print(f"error: {error}")
            raise UserError(f"{run.variant} on {run.case.scene}, {run.case.prompt}: {error}") from error
        except Exception:
            traceback.print_exc()
            raise
        if trouble is not None:
            print(f"error: {trouble}")
    said = None if trouble is None else str(trouble)
    done = {"key": run.key, "diverged": trouble is not None, "error": said}
    write_json(done, run.folder / "finished.json")


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
    trouble = None
    try:
        for _ in edit:
            if stop():
                raise Stopped
    except NonFiniteError as error:
        trouble = error
    result = edit.finish(measures_of(cfg))
    if run.measured.get("truth"):
        result.metrics.update(truths.measure(result, scene=run.case.scene, prompt=run.case.prompt))
    result.save(run.folder, videos=videos_of(cfg, edit.scene), config=run.config)
    return trouble


class Worker:
    """A process of the pool: what it was started with."""

    over: Event  # set when nothing more is to be begun

    @classmethod
    def start(cls, threads: int, over: Event) -> None:
        for number in TERMINALS:  # the parent decides; an edit in progress ends after its step
            signal.signal(number, signal.SIG_IGN)
        if MASKABLE:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # a pool that lost a worker ends the others
        torch.set_num_threads(threads)
        cls.over = over
        Thread(target=cls.end_with_parent, daemon=True).start()

    @staticmethod
    def end_with_parent() -> None:
        """A parent that was killed can't say that it is over. What is unfinished, the next one does again."""
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    @classmethod
    def do(cls, run: Run) -> None:
        """A run that waits in the pool's queue can't be cancelled any more, so it is looked at here."""
        if not cls.over.is_set():
            execute(run, stop=cls.over.is_set)


@contextmanager
def unheard() -> Iterator[None]:
    """Start workers that no signal reaches before `Worker.start`; here it is heard at the end of the block.

    A terminal's Ctrl-C goes to all of its processes, also to one that still imports what it will run; and an exception
    amid the start of a process would leave one that nobody knows of.
    """
    if not MASKABLE:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def do(runs: Sequence[Run], *, jobs: int, label: str) -> Iterator[Run]:
    """Do the runs that aren't finished, `jobs` at a time, and yield each as it ends, with a bar and its ETA.

    The cores are shared out evenly. Raises UserError for the first run with bad input.
    """
    todo = list({run.folder: run for run in runs if not run.finished}.values())
    if len(todo) < len(runs):
        print(f"{label}: {len(runs) - len(todo)} of {len(runs)} runs are finished already")
    if not todo:
        return
    threads = max((os.cpu_count() or 1) // jobs, 1)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # the workers inherit it
    context = get_context("spawn")
    over = context.Event()
    pool = ProcessPoolExecutor(
        min(jobs, len(todo)), mp_context=context, initializer=Worker.start, initargs=(threads, over)
    )
    try:
        with unheard():
            futures = {pool.submit(Worker.do, run): run for run in todo}
        with tqdm(total=len(todo), desc=label, unit="run", smoothing=0.1) as bar:
            for future in as_completed(futures):
                future.result()
                bar.update()
                bar.set_postfix_str(f"{futures[future].variant} {futures[future].case.prompt}")
                yield futures[future]
    except BrokenProcessPool as error:
        raise UserError(
            f"a process of jobs={jobs} was ended, perhaps because memory ran out; lower jobs=, and {RESUMES}"
        ) from error
    finally:
        over.set()
        pool.shutdown(wait=True, cancel_futures=True)
