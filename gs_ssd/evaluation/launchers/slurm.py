"""Slurm by submitit: each run is a job of its own, and at most `jobs` of them are in Slurm's queue."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gs_ssd.errors import UserError
from gs_ssd.evaluation.execute import RESUMES, attempt
from gs_ssd.evaluation.runs import Run

PAUSE = 0.5  # seconds between two looks at the jobs


class Slurm:
    """Jobs of Slurm, or with `cluster` "local" submitit's processes of this machine.

    Args:
        folder: for submitit's scripts and logs; like the runs it lies on a disk that all machines share.
        settings: of submitit's AutoExecutor; `cluster` chooses "slurm" or "local".
    """

    def __init__(self, folder: Path, *, threads: int, gpus: int, settings: Mapping[str, Any]) -> None:
        try:
            import submitit
        except ImportError as error:
            raise UserError("launcher=slurm needs submitit: pip install 'gs_ssd[slurm]'") from error
        self.threads, self.lost = (
            threads,
            (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError),
        )
        own = {str(name): value for name, value in settings.items()}
        try:
            self.executor = submitit.AutoExecutor(folder, cluster=own.pop("cluster", "slurm"))
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"launcher=slurm: there is no Slurm here ({error}); start the command on a machine of the cluster, or "
                "use launcher=local"
            ) from error
        try:
            self.executor.update_parameters(name="gs_ssd", cpus_per_task=threads, gpus_per_node=gpus, **own)
        except (NameError, ValueError, AssertionError, TypeError) as error:
            raise UserError(f"slurm={own}: {str(error).splitlines()[0]}") from error
        self.jobs: list[Any] = []

    def submit(self, run: Run) -> Any:
        self.jobs.append(self.executor.submit(attempt, run, self.threads, os.getcwd()))
        return self.jobs[-1]

    def wait(self, pending: Collection[Any]) -> Collection[Any]:
        time.sleep(PAUSE)
        return [job for job in pending if job.done()]

    def result(self, ended: Any) -> str | None:
        try:
            return ended.result()
        except self.lost as error:
            state = "" if ended.state in ("FINISHED", "COMPLETED") else f" ({ended.state})"
            raise UserError(
                f"Slurm's job {ended.job_id} did not finish{state}: {ended.paths.stderr} says why, slurm.timeout_min= "
                f"and slurm.mem_gb= give it more; finished runs are kept, and {RESUMES}"
            ) from error

    def close(self) -> None:
        for job in self.jobs:
            if not job.done():
                job.cancel(check=False)
