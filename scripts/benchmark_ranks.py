"""Views per second of two processes of one thread against one: `python scripts/benchmark_ranks.py`.

Three runs in turn, in alternating order: two processes with one view each per step, one process with one view (what a
second machine adds), and one process with both views (the same edit: what is done once per step is done once). Only an
otherwise idle machine with two free cores gives a number that means anything: the load average is printed.
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


def views_per_second(ranks: int, views: int, steps: int, folder: Path) -> float:
    """Of the steps alone, with `views` per step shared out; raises CalledProcessError where the edit fails."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    settings = [
        "scene=face",
        "prompt=spiderman",
        "device=cpu",
        f"views_per_step={views}",
        f"steps={steps}",
        *SHORT,
    ]
    subprocess.run(
        [sys.executable, *(launcher if ranks > 1 else []), "train.py", *settings, f"output_dir={folder}"],
        check=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    return views * steps / json.loads((folder / "run.json").read_text())["seconds"]["edit"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    ratios: dict[int, list[float]] = {1: [], 2: []}
    for pair in range(options.pairs):
        runs = [(2, 2), (1, 1), (1, 2)]
        with tempfile.TemporaryDirectory() as folder:
            speeds = {
                run: views_per_second(*run, options.steps, Path(folder) / f"{run}")
                for run in (runs[::-1] if pair % 2 else runs)
            }
        for views in ratios:
            ratios[views].append(speeds[2, 2] / speeds[1, views])
        print(
            f"2 processes {speeds[2, 2]:.1f} views per second; 1 process {speeds[1, 1]:.1f} with one view per step, "
            f"{speeds[1, 2]:.1f} with two (load average {os.getloadavg()[0]:.1f})",
            flush=True,
        )
    one, both = (statistics.median(found) for found in ratios.values())
    print(
        f"median of {options.pairs}: {one:.2f}x one view in one process, {both:.2f}x both in one (asked for: 1.7x)"
    )


if __name__ == "__main__":
    main()
