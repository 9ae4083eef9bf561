"""A Ray cluster: the one that RAY_ADDRESS names, or one that is started on this machine for as long as it takes."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Collection
from typing import Any

from gs_ssd.errors import UserError
from gs_ssd.evaluation.execute import RESUMES, attempt
from gs_ssd.evaluation.runs import Run

PATIENCE = 5.0  # seconds to find out that nobody answers, which Ray takes a minute for
STORE = (
    80_000_000  # bytes for objects that tasks share: nearly the least that Ray takes, for runs share files
)


class RayCluster:
    """Each run is a task of Ray's, which begins it anew where a worker or its machine is lost."""

    def __init__(self, *, jobs: int, threads: int, gpus: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports to its makers otherwise
        try:
            import ray
        except ImportError as error:
            raise UserError("launcher=ray needs Ray: pip install 'gs_ssd[ray]'") from error
        self.ray, self.threads = ray, threads
        address = os.environ.get("RAY_ADDRESS")
        own = {} if address else {"num_cpus": jobs * threads, "num_gpus": jobs * gpus}
        handler = signal.getsignal(signal.SIGTERM)
        try:
            if address:
                check_address(address)
            ray.init(
                address=address or "local",
                include_dashboard=None if address else False,
                object_store_memory=None if address else STORE,
                log_to_driver=False,
                logging_level="ERROR",
                **own,
            )
        except Exception as error:  # Ray raises many types, Exception itself among them
            where = f"RAY_ADDRESS={address} does not answer" if address else "Ray can't be started here"
            raise UserError(
                f"{where} ({str(error).strip().splitlines()[0]}); start the cluster, unset RAY_ADDRESS for one of this "
                "machine's own, or use launcher=local"
            ) from error
        finally:
            signal.signal(signal.SIGTERM, handler)  # Ray's own ends the process without a word
        self.task = ray.remote(num_cpus=threads, num_gpus=gpus)(attempt)

    def submit(self, run: Run) -> Any:
        return self.task.remote(run, self.threads, os.getcwd())

    def wait(self, pending: Collection[Any]) -> Collection[Any]:
        ended, _ = self.ray.wait(list(pending), timeout=1.0)
        return ended

    def result(self, ended: Any) -> str | None:
        try:
            return self.ray.get(ended)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self.ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"a worker of Ray was lost ({reason}); finished runs are kept, and {RESUMES}"
            ) from error

    def close(self) -> None:
        self.ray.shutdown()


def check_address(address: str) -> None:
    """Raise OSError where nobody listens at host:port."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
