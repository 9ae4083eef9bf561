"""Where an evaluation's runs are done: processes of this machine, a Ray cluster, or Slurm.

One file each, with one class of the same four methods (`Launcher`). A launcher holds at most `jobs` runs at a time; the
queue hands it the next one when another has ended, so what is left to do is known to the queue alone.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gs_ssd.evaluation.runs import Run


class Launcher(Protocol):
    """Does runs somewhere."""

    def submit(self, run: Run) -> Any:
        """Begin a run; returns what stands for it."""

    def wait(self, pending: Collection[Any]) -> Collection[Any]:
        """Those of `pending` that have ended, after a while at the latest; perhaps none."""

    def result(self, ended: Any) -> str | None:
        """What the user must mend before the run can be done; None where it is done. Raises UserError."""

    def close(self) -> None:
        """End what is in progress; it is left unfinished."""


@dataclass(frozen=True)
class Machines:
    """What an evaluation is done by.

    Attributes:
        launcher: "local", "ray" or "slurm".
        jobs: runs at a time.
        gpus: of each run; for Ray and Slurm, which hide the others.
        slurm: further settings of submitit, such as timeout_min and slurm_partition.
    """

    launcher: str = "local"
    jobs: int = 1
    gpus: int = 0
    slurm: Mapping[str, Any] = field(default_factory=dict)

    @property
    def threads(self) -> int:
        """Of a run: the cores of this machine are shared out evenly."""
        return max((os.cpu_count() or 1) // self.jobs, 1)

    def open(self, count: int, folder: Path) -> Launcher:
        """The launcher for `count` runs, whose table lies in `folder`. Raises UserError where it is not there."""
        jobs = min(self.jobs, count)
        if self.launcher == "ray":
            from gs_ssd.evaluation.launchers.ray import RayCluster

            return RayCluster(jobs=jobs, threads=self.threads, gpus=self.gpus)
        if self.launcher == "slurm":
            from gs_ssd.evaluation.launchers.slurm import Slurm

            return Slurm(folder / "slurm", threads=self.threads, gpus=self.gpus, settings=self.slurm)
        from gs_ssd.evaluation.launchers.local import Local

        return Local(jobs=jobs, threads=self.threads)
