"""What loading a model takes of a process's memory: `python scripts/measure_loading.py <folder> bfloat16` (Linux).

On the CPU: the prior is loaded, prompts are encoded, and every weight that a step needs is read once. Prints the most
that the process held, libraries included, and how much of what it holds at the end are pages of files, which the system
may drop.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior
from gs_ssd.diffusion.load import load_prior

PIECE = 1 << 20  # numbers that are looked at at once


def held() -> dict[str, float]:
    """GB of this process: the most so far, its own now, and pages of files now."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: 1024 * int(rows[name].split()[0]) / 1e9 for name in ("VmHWM", "RssAnon", "RssFile")}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder")
    parser.add_argument("dtype", nargs="?", default="auto", help="auto | float32 | bfloat16 | float16")
    args = parser.parse_args(argv)
    libraries = held()["VmHWM"]
    prior = load_prior(args.folder, device="cpu", dtype=args.dtype)
    assert isinstance(prior, DiffusersPrior)
    prior.encode_prompt(["a clown", "a man", "", "ugly"])
    for part in prior.running:
        for parameter in part.parameters():
            for piece in parameter.flatten().split(PIECE):
                piece.float().sum()
    now = held()
    print(
        f"{now['VmHWM']:.2f} GB at the most, {libraries:.2f} of it before anything was loaded; at the end "
        f"{now['RssAnon']:.2f} of its own and {now['RssFile']:.2f} of files"
    )


if __name__ == "__main__":
    main()
