import numpy as np
import pytest
import torch

from gs_ssd.render.compilation import kernel
from gs_ssd.render.threads import parallel, run


@kernel
def _add(start, stop, sums, term):
    for i in range(start, stop):
        sums[i] += term


@kernel
def _jobs(team, sums):
    for job in range(200):
        parallel(team, _add, len(sums), 7, (sums, job))
        if np.any(sums != job * (job + 1) // 2):  # a straggler, or an index missed or visited twice
            return job
    return 200


@kernel
def _fail(start, stop, unused):
    if stop == 500:
        raise ValueError("x")


@kernel
def _failing_pass(team, unused):
    parallel(team, _fail, 1000, 10, (unused,))


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def test_every_index_is_visited_once_by_every_job(threads):
    for _ in range(5):
        assert run(_jobs, np.zeros(1000, np.int64)) == 200


def test_a_failure_is_raised_in_the_caller(threads):
    for _ in range(2):
        with pytest.raises(MemoryError, match="kernel failed"):
            run(_failing_pass, 0)
