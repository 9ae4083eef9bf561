"""What makes the host wait for a card, counted."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gs_ssd.diffusion.gaussian_prior import GaussianPrior
from gs_ssd.diffusion.timesteps import Linear
from gs_ssd.diffusion.tiny import tiny_prior
from gs_ssd.edit.anchors import Anchors
from gs_ssd.edit.loop import Stopwatch, distil
from gs_ssd.edit.splats import SplatCanvas
from gs_ssd.edit.trainable import TrainableScene
from gs_ssd.guidance import SSD, encode_prompts
from gs_ssd.render import render
from gs_ssd.scene import FixedViews, OrbitViews, find_frame

aten = torch.ops.aten
READS = (aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default)


def test_a_step_reads_once(gaussians):
    """All that a step decides on comes to the host in one transfer; without it, on a card, it would wait for each."""
    means = {"": 0.5, "grey": 0.5, "red": 0.9}
    prior = GaussianPrior({name: torch.full((3, 32, 32), value) for name, value in means.items()}, std=0.3)
    cameras, _ = OrbitViews(find_frame(gaussians), 32, 32).sample(2, torch.Generator().manual_seed(0))
    editable = gaussians.means[:, 0] > 0
    canvas = SplatCanvas(
        TrainableScene(gaussians, editable=editable),
        source=gaussians.clone(),
        views=FixedViews(cameras),
        renderer=render,
        prior=prior,
        texts=encode_prompts(prior, target="red", source="grey"),
        anchors=Anchors(),
    )
    generator = torch.Generator().manual_seed(0)
    how = {"guidance": SSD(), "timesteps": Linear(), "num_steps": 6, "generator": generator}
    run = distil(canvas, prior=prior, **how)
    for _ in range(3):  # both views are known
        next(run)
    places = []

    class Reads(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function in READS:
                import traceback

                stack = [f.name for f in traceback.extract_stack() if "gs_ssd" in f.filename]
                places.append(stack[-1] if stack else "?")
            return function(*args, **(kwargs or {}))

    with Reads():
        next(run)
    # The schedule's numbers and the drawn views are on the host; the rasterizer's own reads are gsplat's on a card.
    host = {"alpha", "sigma", "sample", "__call__"}
    assert [name for name in places if name not in host and name not in RASTERIZER] == [], places


RASTERIZER = {"rasterization", "backward", "forward"}


@pytest.mark.gpu
def test_a_step_waits_at_most_twice_on_cuda(gaussians):
    """torch's own count: the rasterizer asks how many tiles there are, and the loop reads once."""
    import warnings

    device = torch.device("cuda")
    prior = tiny_prior(device=device, dtype=torch.float16, freeu=True)
    cameras, _ = OrbitViews(find_frame(gaussians), 64, 64).sample(2, torch.Generator().manual_seed(0))
    moved = gaussians.to(device)
    canvas = SplatCanvas(
        TrainableScene(moved),
        source=moved.clone(),
        views=FixedViews(cameras),
        renderer=render,
        prior=prior,
        texts=encode_prompts(prior, target="a clown", source="a man"),
        anchors=Anchors(),
    )
    generator = torch.Generator().manual_seed(0)
    how = {"guidance": SSD(), "timesteps": Linear(), "num_steps": 8, "generator": generator}
    run = distil(canvas, prior=prior, **how)
    for _ in range(5):
        next(run)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            next(run)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sum("synchroniz" in str(w.message) for w in seen) <= 2


@pytest.mark.gpu
def test_phases_on_cuda_last_as_long_as_the_gpu_works():
    """The caller comes back at once from what the GPU has yet to do."""
    a = torch.randn(4096, 4096, device="cuda")
    a @ a
    torch.cuda.synchronize()
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    watch = Stopwatch("cuda")
    watch.start()
    begun.record()
    for _ in range(20):
        a @ a
    ended.record()
    watch.lap("prior")
    torch.cuda.synchronize()
    assert watch.read()["prior"] == pytest.approx(begun.elapsed_time(ended) / 1000, rel=0.1)
