"""Convert a scene between formats: `gs-ssd convert in.splat out.ply`."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path

from gs_ssd.errors import UserError
from gs_ssd.files import check_writable
from gs_ssd.scene import load_gaussians, save_gaussians
from gs_ssd.scene.formats import FORMATS

EXIT_BAD_INPUT = 2


def main(argv: list[str]) -> int:
    """Convert; the exit code is 2 after one line on stderr if a file is at fault."""
    parser = argparse.ArgumentParser(
        prog="gs-ssd convert",
        description=f"Convert between {', '.join(FORMATS)}. What the new format can't hold is said.",
    )
    parser.add_argument("source", help="the scene to read")
    parser.add_argument("destination", help="the file to write; its suffix says the format")
    files = parser.parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
        try:
            if _same(Path(files.source), Path(files.destination)):
                raise UserError(f"{files.destination}: is the source itself; choose another name")
            check_writable(Path(files.destination).parent, "the folder")
            gaussians = load_gaussians(files.source)
            save_gaussians(gaussians, files.destination)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_BAD_INPUT
    print(f"{files.destination}: {len(gaussians):,} Gaussians")
    return 0


def _same(source: Path, destination: Path) -> bool:
    try:
        return os.path.samefile(source, destination)
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
