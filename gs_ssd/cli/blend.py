"""`gs-ssd blend run=<folder> strength=0.6`: a finished edit at another strength."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from gs_ssd.checks import number
from gs_ssd.cli.app import guarded
from gs_ssd.cli.settings import parse, setting, usage

HEADER = """Blend a finished edit with its source: gs-ssd blend run=outputs/face/clown/<time> strength=0.6

0 is the source and 1 the edit, byte by byte; up to 1.5 goes beyond the edit."""


@dataclass(frozen=True)
class BlendSettings:
    """What is blended, and where it goes."""

    run: str = setting("the folder of a finished edit")
    strength: float = setting("from 0 to 1.5")
    source: str | None = setting("the edited scene's file, where it has moved since", None)
    output: str | None = setting(
        "the file to write; without it, blend_<strength>.ply in the run's folder", None
    )

    def __post_init__(self) -> None:
        number("strength", self.strength, least=0, most=1.5)


def main(argv: Sequence[str]) -> int:
    """Write the blended scene; returns the exit code."""
    if not argv or any(argument in ("-h", "--help") for argument in argv):
        print(usage(BlendSettings, HEADER))
        return 0
    return guarded(lambda signals: run(parse(BlendSettings, argv)))


def run(settings: BlendSettings) -> None:
    from gs_ssd.results.blend import blend_run

    path = blend_run(settings.run, settings.strength, source=settings.source, output=settings.output)
    print(f"scene    {path}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
