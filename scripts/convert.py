"""Convert a scene between formats: `python scripts/convert.py in.splat out.ply`."""

from __future__ import annotations

import argparse
import sys
import warnings

from gs_ssd.errors import UserError
from gs_ssd.scene import load_gaussians, save_gaussians
from gs_ssd.scene.formats import FORMATS

EXIT_BAD_INPUT = 2


def main(arguments: list[str] | None = None) -> int:
    """Convert; the exit code is 2 after one line on stderr if a file is at fault."""
    parser = argparse.ArgumentParser(description=f"Convert between {', '.join(FORMATS)}.")
    parser.add_argument("source", help="the scene to read")
    parser.add_argument("destination", help="the file to write; its suffix says the format")
    files = parser.parse_args(arguments)
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        gaussians = load_gaussians(files.source)
        save_gaussians(gaussians, files.destination)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(f"{files.destination}: {len(gaussians):,} Gaussians")
    return 0


if __name__ == "__main__":
    sys.exit(main())
