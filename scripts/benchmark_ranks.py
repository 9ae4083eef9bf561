"""Views per second of two processes of one thread against one: `python scripts/benchmark_ranks.py`.

Pairs of the same edit, one process with both views of a step and two with one each, in turn and in alternating order.
Only an otherwise idle machine with two free cores gives a number that means anything: the load average is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Results as small as they go.
SHORT = ["render.frames=4", "render.size=64", "metrics.views=4", "no_edit_guard=false"]


def views_per_second(ranks: int, steps: int, folder: Path) -> float:
    """Of the steps alone; raises CalledProcessError where the edit fails."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    settings = ["scene=face", "prompt=spiderman", "device=cpu", "views_per_step=2", f"steps={steps}", *SHORT]
    subprocess.run(
        [sys.executable, *(launcher if ranks > 1 else []), "train.py", *settings, f"output_dir={folder}"],
        check=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    return 2 * steps / json.loads((folder / "run.json").read_text())["seconds"]["edit"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    ratios = []
    for pair in range(options.pairs):
        speeds = {}
        with tempfile.TemporaryDirectory() as folder:
            for ranks in (1, 2) if pair % 2 else (2, 1):
                speeds[ranks] = views_per_second(ranks, options.steps, Path(folder) / str(ranks))
        ratios.append(speeds[2] / speeds[1])
        load = os.getloadavg()[0]
        print(
            f"1 process {speeds[1]:.2f}, 2 processes {speeds[2]:.2f} views per second: {ratios[-1]:.2f}x "
            f"(load average {load:.1f})",
            flush=True,
        )
    print(f"median of {len(ratios)} pairs: {statistics.median(ratios):.2f}x, asked for 1.7x")


if __name__ == "__main__":
    main()
