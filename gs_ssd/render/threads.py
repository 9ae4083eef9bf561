"""Run a GIL-free kernel over an index range on every core.

A small thread pool of our own, because the alternatives fight: a second OpenMP runtime next to torch's
oversubscribes a small machine, and numba's workqueue aborts the process when two Python threads enter it.
Kernels write disjoint outputs, so neither the split nor the number of threads can change a result.
"""

from __future__ import annotations

import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import torch

_CORES = os.cpu_count() or 1  # asking the system costs as much as a small kernel


@functools.lru_cache(maxsize=1)
def _pool(pid: int, workers: int) -> ThreadPoolExecutor:
    """The pool of this process: keyed by pid, because threads do not survive a fork."""
    return ThreadPoolExecutor(workers, thread_name_prefix="gs_ssd-render")


def parallel(kernel, count: int, *args, grain: int = 1) -> None:
    """Call `kernel(start, stop, *args)` on ranges of about `grain` indices that cover range(count).

    Uses as many threads as torch does (`torch.set_num_threads`), the caller's included.
    """
    starts = itertools.count(0, grain)  # next() on it is atomic, so it deals out the work

    def work():
        while (start := next(starts)) < count:
            kernel(start, min(start + grain, count), *args)

    helpers = min(torch.get_num_threads(), -(-count // grain)) - 1
    if helpers < 1:
        return work()
    pool = _pool(os.getpid(), max(_CORES, helpers))
    futures = [pool.submit(work) for _ in range(helpers)]
    work()
    for future in futures:
        future.result()
