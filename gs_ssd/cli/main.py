"""The console command: `gs-ssd edit scene=face prompt=spiderman`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from gs_ssd import __version__
from gs_ssd.cli.signals import end_at_once

COMMANDS = {
    "edit": "edit a scene with a sentence",
    "studio": "edit in the browser",
    "image": "edit a picture with a sentence",
    "generate": "make a picture from a sentence",
    "evaluate": "run scenes × prompts × methods and put their metrics side by side",
    "render": "make videos, pictures and depth of a scene",
    "blend": "give a finished edit another strength",
    "convert": "convert a scene between formats",
    "doctor": "say what this machine can run, what is missing, and what an edit will cost",
    "prompts": "print the ready-made prompts and the words that the embedded prior knows",
}


def usage() -> str:
    lines = [f"gs-ssd {__version__}: text-guided editing of 3D Gaussian Splatting scenes", ""]
    lines += [f"  gs-ssd {name:<10}{what}" for name, what in COMMANDS.items()]
    return "\n".join([*lines, "", "gs-ssd <command> --help shows a command's settings."])


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand, by default the one that the process was started with; returns the exit code."""
    if argv is None:
        end_at_once()
        code = main(sys.argv[1:])
        end_at_once()
        return code
    arguments = list(argv)
    name = arguments.pop(0) if arguments else "--help"
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name in ("-V", "--version"):
        print(f"gs-ssd {__version__}")
        return 0
    if name not in COMMANDS:
        close = get_close_matches(name, COMMANDS, n=1)
        near = f" (did you mean {close[0]}?)" if close else ""
        print(f"error: there is no command {name!r}{near}; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return import_module(f"gs_ssd.cli.{name}").main(arguments)


if __name__ == "__main__":
    sys.exit(main())
