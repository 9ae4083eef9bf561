"""What makes the host wait for a card, counted."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import gs_ssd
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
PACKAGE = f"{Path(gs_ssd.__file__).parent}/"
# What waits for the device, as an operation or as a method that is none.
READS = (aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default)
BY_INDEX = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
TRANSFERS = (Tensor.tolist, Tensor.cpu, Tensor.numpy, Tensor.__array__)
# The schedule's numbers and the drawn views are on the host. The rasterizer is gsplat's on a card, and waits once, to
# learn how many tiles there are.
HOST = ("diffusion/schedule.py", "diffusion/timesteps.py", "scene/", "edit/splats.py:__call__", "render/")


def place() -> str:
    """The project's function that is being run, as "file:name"; empty for what is on the host or the rasterizer's."""
    frames = [f for f in traceback.extract_stack() if f.filename.startswith(PACKAGE)]
    own = f"{frames[-1].filename.removeprefix(PACKAGE)}:{frames[-1].name}"
    return "" if own.startswith(HOST) else own


class Reads(TorchDispatchMode):
    """Notes where the host asks for what a device has computed."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        masks = args[1] if function in BY_INDEX else ()
        if function in READS or any(x is not None and x.dtype == torch.bool for x in masks):
            self.note()
        return function(*args, **(kwargs or {}))

    def note(self) -> None:
        self.places += [found] if (found := place()) else []


class Transfers(TorchFunctionMode):
    """The same of methods that are no operations on a CPU."""

    def __init__(self, reads: Reads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in TRANSFERS:
            self.reads.note()
        return function(*args, **(kwargs or {}))


def counted(gaussians, prior, side: int, **settings) -> list[str]:
    """Where a step of an edit with two known views reads."""
    cameras, _ = OrbitViews(find_frame(gaussians), side, side).sample(2, torch.Generator().manual_seed(0))
    canvas = SplatCanvas(
        # Where more may change than not the whole scene is drawn, as it always is on a card.
        TrainableScene(gaussians, editable=gaussians.means[:, 0] > gaussians.means[:, 0].quantile(0.4)),
        source=gaussians.clone(),
        views=FixedViews(cameras),
        renderer=render,
        prior=prior,
        texts=encode_prompts(prior, target="red", source="grey"),
        **{"anchors": Anchors()} | settings,
    )
    generator = torch.Generator().manual_seed(0)
    how = {"guidance": SSD(), "timesteps": Linear(), "num_steps": 6, "generator": generator}
    run = distil(canvas, prior=prior, **how)
    for _ in range(4):  # both views are known
        next(run)
    with Reads() as reads, Transfers(reads):
        next(run)
    return reads.places


def closed_form() -> GaussianPrior:
    means = {"": 0.5, "grey": 0.5, "red": 0.9}
    return GaussianPrior({name: torch.full((3, 32, 32), value) for name, value in means.items()}, std=0.3)


@pytest.mark.parametrize(
    "prior, side",
    [
        (closed_form, 32),
        (lambda: tiny_prior(freeu=True), 64),
        pytest.param(lambda: tiny_prior("sdxl"), 64, marks=pytest.mark.slow),
        pytest.param(lambda: tiny_prior("sd3"), 64, marks=pytest.mark.slow),
        pytest.param(lambda: tiny_prior("pixart"), 64, marks=pytest.mark.slow),
    ],
    ids=["closed form", "sd", "sdxl", "sd3", "pixart"],
)
def test_a_step_reads_once(gaussians, prior, side):
    """All that a step decides on comes to the host in one transfer: with gsplat's, two waits on a card."""
    assert counted(gaussians, prior(), side) == ["edit/loop.py:read"]


class Curious(Anchors):
    """Anchors that ask for a number in each of the ways that make the host wait."""

    def __init__(self, ask) -> None:
        super().__init__()
        self.ask = ask

    def add_gradients(self, scene):
        self.ask(scene.params["means"].detach()[:, 0])
        return super().add_gradients(scene)


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: float(x[0]),
        lambda x: x.tolist(),
        lambda x: x[x > 0],
        lambda x: x.clone().index_put_((x > 0,), torch.zeros(())),
        lambda x: x.nonzero(),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: bool((x > 0).any()),
    ],
    ids=["item", "tolist", "mask", "mask set", "nonzero", "cpu", "numpy", "bool"],
)
def test_a_second_read_is_seen(gaussians, ask):
    """The check itself: each way to make the host wait is counted."""
    found = counted(gaussians, closed_form(), 32, anchors=Curious(ask))
    assert sorted(found) == ["edit/loop.py:read", "edit/splats.py:settle"]


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
