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
PAGE = ".html"


def main(argv: list[str]) -> int:
    """Convert; the exit code is 2 after one line on stderr if a file is at fault."""
    parser = argparse.ArgumentParser(
        prog="gs-ssd convert",
        description=f"Convert between {', '.join(FORMATS)}, or to a page that shows the scene ({PAGE}). "
        "What the new format can't hold is said.",
    )
    parser.add_argument("source", help="the scene to read")
    parser.add_argument("destination", help="the file to write; its suffix says the format")
    parser.add_argument(
        "--spz-axes",
        choices=("RUB", "RDF"),
        default="RUB",
        type=str.upper,
        help="axes of a .spz that names none, read or written: RUB as Niantic describes it (the default), RDF as "
        "SuperSplat and splat-transform 3 leave it; a scene of the other comes out turned by half about x",
    )
    files = parser.parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
        try:
            if _same(Path(files.source), Path(files.destination)):
                raise UserError(f"{files.destination}: is the source itself; choose another name")
            check_writable(Path(files.destination).parent, "the folder")
            count = convert(Path(files.source), Path(files.destination), spz_axes=files.spz_axes)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_BAD_INPUT
    print(f"{files.destination}: {count}")
    return 0


def convert(source: Path, destination: Path, *, spz_axes: str = "RUB") -> str:
    """Convert a file; returns what was written, in words."""
    suffixes = [source.suffix.lower(), destination.suffix.lower()]
    if spz_axes != "RUB" and (".spz" not in suffixes or PAGE in suffixes):
        raise UserError(
            "--spz-axes is about a .spz that becomes another scene file or comes of one; leave it out"
        )
    if PAGE in suffixes[1:]:
        return convert_to_page(source, destination)
    gaussians = load_gaussians(source, spz_axes=spz_axes)
    save_gaussians(gaussians, destination, spz_axes=spz_axes)
    return f"{len(gaussians):,} Gaussians"


def convert_to_page(source: Path, destination: Path) -> str:
    """Write a page that shows a scene in 3D, as its run saw it where there is one; returns what it holds."""
    from gs_ssd.results.earlier import open_scene
    from gs_ssd.results.report import write_scene_html
    from gs_ssd.results.splats import Stand

    scene = open_scene(source)
    stand = Stand.of_orbit(scene.turn(8), scene.background)
    shown = write_scene_html(scene.gaussians, destination, stand=stand, title=scene.name)
    of = (
        f"of {len(scene):,} Gaussians the {shown:,} that look largest"
        if shown < len(scene)
        else f"{shown:,} Gaussians"
    )
    return f"{of}, to be opened in a browser" + "; without view-dependent colours" * (
        scene.gaussians.sh_degree > 0
    )


def _same(source: Path, destination: Path) -> bool:
    try:
        return os.path.samefile(source, destination)
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
