"""Measure edits of millions of Gaussians on the CPU, one thread.

    python scripts/benchmark_large.py 3000000 --editable 0.01              one edit: seconds and memory by phase
    python scripts/benchmark_large.py 3000000 --editable 0.01 --paired     a masked step against an unmasked one

The scene is made of real scans side by side, seen by 200 cameras above it. Seconds are processor time, medians over
steps; in a pair both edits are in one process and take turns, so that other work beside them meets both alike.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gs_ssd import Prompts, SceneEdit
from gs_ssd.edit import loop
from gs_ssd.edit.loop import StepReport
from gs_ssd.render import compile_kernels
from gs_ssd.scene import Cameras, Gaussians, load_gaussians, orbit, save_gaussians
from gs_ssd.scene.scene import Scene
from gs_ssd.session.costs import Job, predict

SCANS = Path(__file__).parents[2] / "shared" / "scenes"
PROMPTS = Prompts("a photo of a man", "a photo of a clown")
CAMERAS, STEPS = 200, 1500  # of a whole edit
VIEWS = 3  # of a pair, so that each is soon seen again


def tiled(count: int, degree: int, folder: Path = SCANS) -> Gaussians:
    """`count` Gaussians: scans of one unit each, in a square; harmonics above degree 0 are faint noise."""
    scans = [load_gaussians(folder / f"{name}.splat") for name in ("plant", "demosthenes_100k")]
    scans = [scan.map(lambda value: value) for scan in scans]
    for scan in scans:
        low, high = (scan.means.quantile(q, dim=0) for q in (0.01, 0.99))
        size = (high - low).max()
        scan.means, scan.scales = (scan.means - (low + high) / 2) / size, scan.scales - size.log()
    side = int((count / len(scans[1])) ** 0.5) + 1
    parts: dict[str, list[Tensor]] = {name: [] for name in scans[0].tensors()}
    missing, place = count, 0
    while missing:
        scan = scans[place % 2][:missing]
        spot = torch.tensor([place % side - side / 2, 0.0, place // side - side / 2])
        for name, value in scan.tensors().items():
            parts[name].append(value + spot if name == "means" else value)
        missing, place = missing - len(scan), place + 1
    tensors = {name: torch.cat(parts.pop(name)) for name in list(parts)}
    generator = torch.Generator().manual_seed(0)
    tensors["shN"] = 0.05 * torch.randn(count, (degree + 1) ** 2 - 1, 3, generator=generator)
    return Gaussians(**tensors)


def nearest(gaussians: Gaussians, share: float) -> Tensor:
    """The mask of the `share` of Gaussians that lie nearest to the middle."""
    if share >= 1:
        return torch.ones(len(gaussians), dtype=torch.bool)
    distance = gaussians.means.norm(dim=-1)
    return distance <= distance.kthvalue(max(int(share * len(gaussians)), 1)).values


def edit_of(scene: Scene, share: float, steps: int, size: int) -> SceneEdit:
    scene = replace(scene, editable=nearest(scene.gaussians, share))
    return SceneEdit(scene, PROMPTS, prior="embedded", num_steps=steps, resolution=size)


def optimiser_mb(edit: SceneEdit) -> float:
    """What the optimiser keeps: parameters, gradients (as many), two moments, anchors."""
    scene, anchors = edit.trainable.state_dict(), edit.settings["anchors"]
    moments = [value for one in scene["moments"].values() for value in one.values() if value.dim()]
    own = [value for name, value in scene["params"].items() if name in edit.trainable.optimizers]
    kept = [*own, *own, *moments, *(anchors.values.values() if anchors else ())]
    return sum(value.numel() * value.element_size() for value in kept) / 1e6


def durations(report: StepReport) -> dict[str, float]:
    """Seconds of a step by phase, and of all phases."""
    return report.seconds | {"step": sum(report.seconds.values())}


def paired(scene: Scene, share: float, steps: int, size: int) -> None:
    """The masked step beside the unmasked one; the first look at a view, which draws the source too, apart."""
    edits = [edit_of(scene, each, steps + VIEWS, size) for each in (1.0, share)]
    for _ in range(steps + VIEWS):
        for edit in edits:
            next(edit)
    kept = [optimiser_mb(edit) for edit in edits]
    print(f"| {len(scene):,} Gaussians, {size}×{size} | unmasked | {share:.1%} editable | ratio |")
    print(f"|---|---|---|---|\n| optimiser, MB | {kept[0]:.1f} | {kept[1]:.1f} | {kept[1] / kept[0]:.3f} |")
    whole_edit = [0.0, 0.0]
    for what, share_of_steps, some in (
        ("first look", CAMERAS / STEPS, slice(1, VIEWS)),
        (f"{steps} later steps", 1 - CAMERAS / STEPS, slice(VIEWS, None)),
    ):
        rows = [[durations(report) for report in edit.reports[some]] for edit in edits]
        for phase in rows[0][0]:
            pairs = [(whole[phase], masked[phase]) for whole, masked in zip(*rows)]
            seconds = [statistics.median(side) for side in zip(*pairs)]
            ratio = statistics.median(masked / max(whole, 1e-9) for whole, masked in pairs)
            print(f"| {what}: {phase}, s | {seconds[0]:.3f} | {seconds[1]:.3f} | {ratio:.2f} |")
        whole_edit = [
            total + share_of_steps * one for total, one in zip(whole_edit, seconds)
        ]  # of "step", the last
    said = " | ".join(f"{seconds:.3f}" for seconds in whole_edit)
    print(
        f"| mean step of {STEPS:,} with {CAMERAS} cameras, s | {said} | {whole_edit[1] / whole_edit[0]:.2f} |"
    )
    known = edits[1].canvas.frozen.cache.values()
    shown = statistics.median(int(np.unpackbits(view).sum()) for view in known) if known else 0
    print(
        f"A view shows {shown:,} frozen Gaussians; {len(known)} views are kept in {sum(map(len, known)) / 1e6:.1f} MB."
    )


def phases(path: Path, share: float, steps: int, size: int, cameras: Cameras) -> None:
    """One edit from file to file: processor seconds and peak memory by phase, and what doctor predicts."""
    rows, begun = [], time.process_time()

    def lap(name: str) -> None:
        nonlocal begun
        now = time.process_time()
        rows.append((name, now - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
        begun = now

    scene = Scene.of(load_gaussians(path), up="-y", cameras=cameras, views={"count": CAMERAS})
    lap("load")
    edit = edit_of(scene, share, steps, size)
    lap("set up")
    list(edit)
    lap(f"{steps} steps")
    save_gaussians(edit.finish().after, path.with_name("edited.ply"))
    lap("write")
    job = Job(
        gaussians=len(scene),
        family="embedded",
        method="SSD",
        predictions=2,
        steps=steps,
        views=1,
        side=size,
        frames=0,
        frame_side=size,
        degree=scene.gaussians.sh_degree,
    )
    cost = predict(job, cuda=False)
    assert cost is not None
    steps_done = [durations(report) for report in edit.reports[1:]]
    said = ", ".join(f"{name} {statistics.median(d[name] for d in steps_done):.3f}" for name in steps_done[0])
    for name, seconds, peak in rows:
        print(f"| {len(scene):,} | {share:.0%} | {name} | {seconds:.1f} | {peak:,.0f} |")
    print(f"a step: {said}; peak {rows[-1][2]:,.0f} MB, doctor predicts {cost.memory_mb:,.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gaussians", type=int)
    parser.add_argument("--editable", type=float, default=1.0, help="share of the Gaussians that may change")
    parser.add_argument("--degree", type=int, default=0, choices=range(4), help="of the harmonics")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--size", type=int, default=128, help="of the views, pixels")
    parser.add_argument("--paired", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    compile_kernels()
    loop.time.perf_counter = time.process_time  # a step's phases in processor time
    gaussians = tiled(options.gaussians, options.degree)
    scene = Scene.of(gaussians, up="-y")
    cameras = orbit(scene.frame, CAMERAS, width=options.size, height=options.size)
    if options.paired:
        scene = replace(scene, cameras=cameras, views={"count": VIEWS})
        return paired(scene, options.editable, options.steps, options.size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.ply"
        save_gaussians(gaussians, path)
        del gaussians, scene
        phases(path, options.editable, options.steps, options.size, cameras)


if __name__ == "__main__":
    main()
