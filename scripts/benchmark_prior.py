"""The embedded prior's prediction, plain against ONNX Runtime: `python scripts/benchmark_prior.py`.

Processor time of one thread, the two in turn in one process; the median of the ratios is what other work on the machine
disturbs least.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gs_ssd.diffusion.load import load_prior


def milliseconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return 1000 * (time.process_time() - start)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument(
        "--branches", type=int, nargs="*", default=[1, 2, 3, 4], help="predictions in one call"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    priors = [load_prior("embedded", device="cpu", onnx=onnx) for onnx in (False, True)]
    print(
        "| branches | plain | ONNX Runtime | ratio, median and range | largest difference |\n|---|---|---|---|---|"
    )
    for branches in args.branches:
        text = priors[0].encode_prompt(["a photo of a clown"] * branches)
        size = priors[0].resolution // priors[0].vae_scale_factor
        z_t = torch.randn(
            (branches, priors[0].latent_channels, size, size), generator=torch.Generator().manual_seed(0)
        )
        ask = [partial(prior.predict_noise, z_t, 400, text) for prior in priors]
        first, second = (call() for call in ask)
        times = [[milliseconds(call) for call in ask] for _ in range(args.repeats)]
        ratios = sorted(a / b for a, b in times)
        plain, onnx = (statistics.median(column) for column in zip(*times))
        print(
            f"| {branches} | {plain:.1f} ms | {onnx:.1f} ms | {statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}) | {(first - second).abs().max():.1e} |"
        )


if __name__ == "__main__":
    main()
