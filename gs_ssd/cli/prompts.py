"""`gs-ssd prompts`: the ready-made prompts, and every word that the embedded prior knows."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence

import yaml

from gs_ssd.assets import CONFIGS, PRIOR
from gs_ssd.session.shorthands import options


def main(argv: Sequence[str]) -> int:
    """Print them; there is nothing to choose."""
    if argv and argv[0] not in ("-h", "--help"):
        print(f"error: {argv[0]!r}: this command takes no settings", file=sys.stderr)
        return 2
    print("Prompts (prompt=NAME):")
    for name in options("prompt"):
        prompt = yaml.safe_load((CONFIGS / "prompt" / f"{name}.yaml").read_text(encoding="utf-8"))
        if name != "custom":
            print(f"  {name:<22} {prompt['target']}")
    print('  or your own:           prompt.source="what the scene shows" prompt.target="what it should show"')
    vocabulary = json.loads((PRIOR / "vocabulary.json").read_text(encoding="utf-8"))
    for kind, words in vocabulary.items():
        print(f"\nThe embedded prior's {kind}:")
        print(textwrap.fill(", ".join(words), 100, initial_indent="  ", subsequent_indent="  "))
    return 0
