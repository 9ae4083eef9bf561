"""The queue of an evaluation's runs: scenes and pictures alike, on one machine or many."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tqdm import tqdm

from gs_ssd.errors import UserError
from gs_ssd.evaluation.execute import RESUMES
from gs_ssd.evaluation.launchers import Machines
from gs_ssd.evaluation.runs import Run

ARRIVAL = 60  # seconds until a disk that is shared over a network shows what another machine wrote
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


def do(runs: Sequence[Run], machines: Machines, *, folder: Path, label: str) -> Iterator[Run]:
    """Do the runs that aren't finished and yield each as it ends, with a bar and the time that is left.

    Raises UserError for the first run with bad input, for machines that aren't there, and for a run that was done but
    isn't here. Whatever ends it, finished runs are kept and done no more.
    """
    pace = Pace(runs)
    todo = list({run.folder: run for run in runs if not run.finished}.values())
    if len(todo) < len(runs):
        print(f"{label}: {len(runs) - len(todo)} of {len(runs)} runs are finished already")
    if not todo:
        return
    print(f"{label}: {len(todo)} to do, {pace.left(todo, machines.jobs)}", flush=True)
    os.environ["OMP_NUM_THREADS"] = str(machines.threads)  # the processes of this machine inherit it
    launcher = machines.open(len(todo), folder)
    waiting = deque(todo)
    pending: dict[Any, Run] = {}
    try:
        with tqdm(total=len(todo), desc=label, unit="run", bar_format=BAR) as bar:
            while waiting or pending:
                while waiting and len(pending) < machines.jobs:
                    run = waiting.popleft()
                    pending[launcher.submit(run)] = run
                for ended in launcher.wait(pending):
                    run = pending.pop(ended)
                    if wrong := launcher.result(ended):
                        raise UserError(wrong)
                    check_arrival(run)
                    pace.learn(run)
                    bar.update()
                    left = pace.left([*waiting, *pending.values()], machines.jobs)
                    bar.set_postfix_str(f"{run.variant} {run.case.prompt}, {left}")
                    yield run
    finally:
        launcher.close()


def check_arrival(run: Run) -> None:
    """Raise UserError where a run was done, but its results don't lie here."""
    until = time.monotonic() + ARRIVAL
    while not run.finished:
        if time.monotonic() > until:
            raise UserError(
                f"{run.folder} was done, but the results that lie here are not its own; all machines must share this "
                f"disk, and what a run reads must not change meanwhile. Finished runs are kept, and {RESUMES}"
            )
        time.sleep(1)


class Pace:
    """How long runs take, by the records of those that are finished."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.seconds: dict[Any, list[float]] = {}
        for run in runs:
            if run.finished:
                self.learn(run)

    def learn(self, run: Run) -> None:
        if (took := run.seconds) is not None:
            self.seconds.setdefault((run.variant, run.share), []).append(took)

    def left(self, todo: Sequence[Run], jobs: int) -> str:
        """What the runs `todo` will take: each as long as its variant's did in the mean, or as all did."""
        if not self.seconds:
            return "how long it takes is known after the first"
        means = {kind: fmean(some) for kind, some in self.seconds.items()}
        seconds = sum(means.get((run.variant, run.share), fmean(means.values())) for run in todo) / jobs
        return f"about {spoken(seconds)} left"


def spoken(seconds: float) -> str:
    """A duration: 40 s, 12 min, 1 h 48 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
