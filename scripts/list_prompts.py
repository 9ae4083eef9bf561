"""Print every prompt in configs/prompt/ and every word the embedded prior knows: `python scripts/list_prompts.py`."""

from __future__ import annotations

import json
import textwrap

from omegaconf import OmegaConf

from gs_ssd.assets import CONFIGS, PRIOR
from gs_ssd.cli.shorthands import options


def main() -> None:
    print("Prompts (prompt=NAME):")
    for name in options("prompt"):
        target = OmegaConf.to_container(OmegaConf.load(CONFIGS / "prompt" / f"{name}.yaml"), resolve=False)[
            "target"
        ]
        if name != "custom":
            print(f"  {name:<14} {target}")
    print('  or your own:   prompt.source="what the scene shows" prompt.target="what it shall become"')
    vocabulary = json.loads((PRIOR / "vocabulary.json").read_text())
    for kind, words in vocabulary.items():
        print(f"\nThe embedded prior's {kind}:")
        print(textwrap.fill(", ".join(words), 100, initial_indent="  ", subsequent_indent="  "))


if __name__ == "__main__":
    main()
