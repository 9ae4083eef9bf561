"""Make an image from noise by score distillation. The same as `gs-ssd generate`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gs_ssd.cli.generate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
