"""Measure the CPU rasteriser: `python scripts/benchmark.py --output docs/benchmarks.md`.

Every time is that of a whole call (activation, projection, colour, sorting, compositing), and with "backward" also
that of all gradients. Medians over repeats after a warm-up, random inputs from a fixed seed.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # see train.py

import torch

from gs_ssd.render import rasterization, render
from gs_ssd.scene import Cameras, Gaussians, find_frame, load_gaussians, orbit

ROOT = Path(__file__).parents[1]
SCENES = (("demosthenes_100k", 512), ("plant", 512), ("demosthenes_10k", 128))
TURNTABLE, FRAMES, FRAME_SIZE = "plant", 60, 256
ORACLE_GAUSSIANS, ORACLE_SIZE = 200, 96


def milliseconds(repeats: int, function: Callable[..., object], *arguments) -> tuple[float, float, float]:
    """Median and least wall time and least processor time (all threads) of `repeats` calls, after a warm-up."""
    wall, processor = [], []
    for _ in range(repeats + 1):
        start, processor_start = time.perf_counter(), time.process_time()
        function(*arguments)
        wall.append(1000 * (time.perf_counter() - start))
        processor.append(1000 * (time.process_time() - processor_start))
    return statistics.median(wall[1:]), min(wall[1:]), min(processor[1:])


def forward(gaussians: Gaussians, cameras: Cameras) -> None:
    with torch.no_grad():
        render(gaussians, cameras)


def forward_backward(gaussians: Gaussians, cameras: Cameras) -> None:
    leaves = gaussians.map(lambda value: value.detach().requires_grad_())
    image = render(leaves, cameras).rgb
    image.backward(torch.ones_like(image))


def look(gaussians: Gaussians, views: int, size: int) -> Cameras:
    """45 degree views of the whole object."""
    return orbit(find_frame(gaussians), views, width=size, height=size)


def random_ball(count: int, seed: int = 0) -> Gaussians:
    """Gaussians in a unit ball, of a size that covers it about equally for every `count`."""
    generator = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=0.4 * torch.randn(count, 3, generator=generator),
        scales=torch.randn(count, 3, generator=generator) * 0.3 - math.log(count) / 2 + 1.0,
        quats=torch.randn(count, 4, generator=generator),
        opacities=torch.randn(count, generator=generator),
        sh0=torch.randn(count, 1, 3, generator=generator),
        shN=torch.zeros(count, 0, 3),
    )


def scene_rows(folder: Path, repeats: int) -> list[str]:
    rows = []
    for name, size in SCENES:
        path = folder / f"{name}.splat"
        if not path.exists():
            print(f"{path} is not there, its row is left out", file=sys.stderr)
            continue
        gaussians = load_gaussians(path)
        cameras = look(gaussians, 1, size)
        times = [milliseconds(repeats, f, gaussians, cameras) for f in (forward, forward_backward)]
        cells = " | ".join(f"{median:.1f} ({least:.1f})" for median, least, _ in times)
        rows.append(f"| {name} | {len(gaussians):,} | {size}×{size} | {cells} | {times[1][2]:.1f} |")
    return rows


def oracle_row() -> str:
    """Our time and the torch oracle's, on one random scene, forward and backward."""
    spec = importlib.util.spec_from_file_location("oracle", ROOT / "tests" / "render" / "oracle.py")
    oracle = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(oracle)
    gaussians = random_ball(ORACLE_GAUSSIANS)
    cameras = look(gaussians, 1, ORACLE_SIZE)

    def run(function):
        leaves = gaussians.map(lambda value: value.detach().requires_grad_())
        image, _, _ = function(
            leaves.means, leaves.quats, leaves.scales.exp(), leaves.opacities.sigmoid(), leaves.sh,
            cameras.viewmats, cameras.Ks, ORACLE_SIZE, ORACLE_SIZE, sh_degree=0,
        )  # fmt: skip
        image.backward(torch.ones_like(image))

    slow, fast = (
        milliseconds(1, run, oracle.rasterization)[0],
        milliseconds(9, run, rasterization)[0],
    )
    return f"| {ORACLE_GAUSSIANS:,} | {ORACLE_SIZE}×{ORACLE_SIZE} | {slow:,.0f} | {fast:.1f} | {slow / fast:,.0f}× |"


def scaling_rows(repeats: int) -> list[str]:
    rows = []
    for count, size in (
        (25_000, 256),
        (50_000, 256),
        (100_000, 256),
        (200_000, 256),
        (50_000, 512),
        (50_000, 1024),
    ):
        gaussians = random_ball(count)
        cameras = look(gaussians, 1, size)
        times = [milliseconds(repeats, f, gaussians, cameras) for f in (forward, forward_backward)]
        rows.append(
            f"| {count:,} | {size}×{size} | {times[0][0]:.1f} | {times[1][0]:.1f} | {times[1][2]:.1f} |"
        )
    return rows


def turntable_row(folder: Path) -> list[str]:
    path = folder / f"{TURNTABLE}.splat"
    if not path.exists():
        return []
    start = time.perf_counter()
    gaussians = load_gaussians(path)
    cameras = look(gaussians, FRAMES, FRAME_SIZE)
    for view in range(FRAMES):
        forward(gaussians, cameras[view])
    seconds = time.perf_counter() - start
    return [f"| {TURNTABLE} | {FRAMES} | {FRAME_SIZE}×{FRAME_SIZE} | {seconds:.1f} |"]


def report(folder: Path, repeats: int) -> str:
    load = os.getloadavg()[0]
    scenes, oracle, scaling, turn = (
        scene_rows(folder, repeats),
        oracle_row(),
        scaling_rows(max(3, repeats // 3)),
        turntable_row(folder),
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines = [
        "## The CPU rasteriser",
        "",
        f"`python scripts/benchmark.py`: {platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__.split('+')[0]}, float32.",
        f"Milliseconds of whole calls, median (and least) of {repeats}. The processor time, of all threads together,",
        f"varies less than the others with what else the machine does (load average at the start: {load:.1f}).",
        f"Peak memory of the whole process, torch included: {peak:,.0f} MB.",
        "",
        "| scene | Gaussians | image | forward | forward + backward | its processor time |",
        "|---|---|---|---|---|---|",
        *scenes,
        "",
        "Against the oracle of the tests, which composites in plain torch (forward + backward):",
        "",
        "| Gaussians | image | oracle | ours | speed-up |",
        "|---|---|---|---|---|",
        oracle,
        "",
        "Growth with the number of Gaussians and of pixels, on random balls of about equal coverage:",
        "",
        "| Gaussians | image | forward | forward + backward | its processor time |",
        "|---|---|---|---|---|",
        *scaling,
        "",
        "A turntable: seconds to load, orbit and render.",
        "",
        "| scene | frames | image | seconds |",
        "|---|---|---|---|",
        *turn,
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--scenes", type=Path, default=ROOT.parent / "shared" / "scenes", help="folder of .splat files"
    )
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument(
        "--output", type=Path, help="Markdown file whose section on the rasteriser is replaced"
    )
    options = parser.parse_args()
    text = report(options.scenes, options.repeats)
    print(text)
    if options.output:
        replace_section(options.output, text)


def replace_section(path: Path, text: str) -> None:
    """Put `text`, which opens with a `## ` heading, in place of the section of that name, or at the end."""
    old = path.read_text() if path.exists() else "# Benchmarks\n"
    heading = text.splitlines()[0]
    before, found, rest = old.partition(heading + "\n")
    _, following, after = rest.partition("\n## ") if found else ("", "", "")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(before.rstrip() + "\n\n" + text + (following + after))


if __name__ == "__main__":
    main()
