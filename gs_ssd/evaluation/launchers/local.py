"""Processes of this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event
from threading import Thread, current_thread, main_thread

from gs_ssd.errors import UserError
from gs_ssd.evaluation.execute import RESUMES, attempt
from gs_ssd.evaluation.runs import Run

TERMINALS = [getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]  # sent to all
SIGNALS = [*TERMINALS, signal.SIGTERM]
MASKABLE = hasattr(signal, "pthread_sigmask")  # Unix


class Local:
    """A pool of processes, started as runs come."""

    def __init__(self, *, jobs: int, threads: int) -> None:
        context = get_context("spawn")
        self.jobs, self.threads = jobs, threads
        self.over = context.Event()
        self.pool = ProcessPoolExecutor(
            jobs, mp_context=context, initializer=Worker.start, initargs=(self.over,)
        )

    def submit(self, run: Run) -> Future[str | None]:
        with unheard():
            return self.pool.submit(Worker.do, run, self.threads, os.getcwd())

    def wait(self, pending: Collection[Future[str | None]]) -> Collection[Future[str | None]]:
        return wait(pending, return_when=FIRST_COMPLETED).done

    def result(self, ended: Future[str | None]) -> str | None:
        try:
            return ended.result()
        except BrokenProcessPool as error:
            raise UserError(
                f"a process of jobs={self.jobs} was ended, perhaps because memory ran out; lower jobs=, and {RESUMES}"
            ) from error

    def close(self) -> None:
        self.over.set()
        self.pool.shutdown(wait=True, cancel_futures=True)


class Worker:
    """A process of the pool: what it was started with."""

    over: Event  # set when an edit in progress is to end after its step

    @classmethod
    def start(cls, over: Event) -> None:
        for number in TERMINALS:  # the parent decides
            signal.signal(number, signal.SIG_IGN)
        if MASKABLE:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # a pool that lost a worker ends the others
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
    def do(cls, run: Run, threads: int, place: str) -> str | None:
        """What waits in the pool's queue can't be cancelled any more, so it is looked at here."""
        return None if cls.over.is_set() else attempt(run, threads, place, cls.over.is_set)


@contextmanager
def unheard() -> Iterator[None]:
    """Start workers that no signal reaches before `Worker.start`; here it is heard at the end of the block.

    A terminal's Ctrl-C goes to all of its processes, also to one that still imports what it will run; and an exception
    amid the start of a process would leave one that nobody knows of, or that misses what it was to be told. The mask
    is for the workers, which inherit it. Here another thread may take the signal, so the main one must note it.
    """
    if not MASKABLE or current_thread() is not main_thread():
        yield
        return
    noted: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, frame: noted.append(number)) for number in SIGNALS
    }
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in noted:
            signal.raise_signal(number)
