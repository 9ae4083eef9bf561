"""Print the ready-made prompts and the words that the embedded prior knows. The same as `gs-ssd prompts`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gs_ssd.cli.prompts import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
