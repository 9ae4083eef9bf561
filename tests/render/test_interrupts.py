"""Ctrl-C while the kernels run: an exception, never a crash."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.waiting import PATIENCE

INTERRUPTS = 40
CODE = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
import torch
from gs_ssd.render import rasterization
from tests.render.scenes import gaussians, views

torch.set_num_threads(THREADS)
viewmats, Ks = views(1, 32, 32)
inputs = gaussians(3000, 1)

def render():
    leaves = {{name: value.clone().requires_grad_() for name, value in inputs.items()}}
    options = {{"viewmats": viewmats, "Ks": Ks, "width": 32, "height": 32, "sh_degree": 0}}
    rasterization(**leaves, **options)[0].sum().backward()

render()
for _ in range({INTERRUPTS}):
    try:
        print("ready", flush=True)
        while True:
            render()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
render()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_at_any_moment_is_an_exception(threads):
    """numba calls Python to box some results, and would not notice the KeyboardInterrupt that comes out of it."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", CODE.replace("THREADS", str(threads))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip
    moments = random.Random(0)
    for _ in range(INTERRUPTS):
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0, 0.03))
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n", f"exit code {process.wait()}"
    assert process.wait(PATIENCE) == 0, process.stderr.read()
