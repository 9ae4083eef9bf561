"""Run scenes × prompts × methods and put their metrics side by side. The same as `gs-ssd evaluate`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gs_ssd.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
