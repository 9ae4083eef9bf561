"""The CPU rasteriser here against that of another checkout: `python scripts/benchmark_against.py ../old`.

Both run in processes of their own, one thread each, and take turns: forward and backward of `render`, processor time,
so that what else the machine does meets both alike. What counts is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CASES = (("demosthenes_10k", 128), ("plant", 256), ("plant", 512))
CHILD = """
import sys, time, torch
torch.set_num_threads(1)
from gs_ssd.render import render
from gs_ssd.scene import find_frame, load_gaussians, orbit
gaussians = load_gaussians(sys.argv[1])
size, repeats = int(sys.argv[2]), int(sys.argv[3])
cameras = orbit(find_frame(gaussians), 1, width=size, height=size)
def call():
    leaves = gaussians.map(lambda value: value.detach().requires_grad_())
    image = render(leaves, cameras).rgb
    image.backward(torch.ones_like(image))
for _ in range(20):
    call()
print("ready", flush=True)
for _ in sys.stdin:
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        call()
        times.append(1000 * (time.process_time() - begun))
    print(sorted(times)[repeats // 2], flush=True)
"""


def child(checkout: Path, scene: Path, size: int, repeats: int) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(scene), str(size), str(repeats)],
        cwd=checkout,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout.resolve())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def turn(process: subprocess.Popen) -> float:
    """The median milliseconds of a turn's calls."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def compare(other: Path, scene: Path, size: int, turns: int, repeats: int) -> tuple[float, float]:
    """Medians over all turns, of the other checkout and of this one."""
    pair = [child(checkout, scene, size, repeats) for checkout in (other, ROOT)]
    seen: list[list[float]] = [[], []]
    for round_ in range(turns):
        for side in (0, 1) if round_ % 2 else (1, 0):
            seen[side].append(turn(pair[side]))
    for process in pair:
        process.communicate()
    return statistics.median(seen[0]), statistics.median(seen[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="a checkout of another commit")
    parser.add_argument("--scenes", type=Path, default=ROOT.parent / "shared" / "scenes")
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5, help="calls per turn")
    options = parser.parse_args()
    print("| scene | image | other, ms | here, ms | ratio |\n|---|---|---|---|---|")
    for name, size in CASES:
        scene = (options.scenes / f"{name}.splat").resolve()
        other, here = compare(options.other, scene, size, options.turns, options.repeats)
        print(f"| {name} | {size}×{size} | {other:.2f} | {here:.2f} | {here / other:.2f} |", flush=True)


if __name__ == "__main__":
    main()
