"""Edit an image with a sentence. The same as `gs-ssd image`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gs_ssd.cli.image import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
