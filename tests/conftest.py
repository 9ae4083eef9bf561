"""Shared fixtures: a small scene that is nothing's special case, and the `gpu` marker."""

from __future__ import annotations

import os
import random
import signal

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # see train.py
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # pytest -n: the workers share the cores out
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // int(workers), 1)))

import numpy as np
import pytest
import torch

from gs_ssd.scene import Gaussians
from tests.synthetic import random_gaussians

# A shell ignores Ctrl-C in what it runs in the background, nohup ignores SIGHUP, and so would every process of a test.
for name, heard in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    number = getattr(signal, name, None)  # Windows has no SIGHUP
    if number is not None and signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, heard)


def pytest_collection_modifyitems(items) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Each test draws the same numbers, whichever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def gaussians() -> Gaussians:
    return random_gaussians()
