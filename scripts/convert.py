"""Convert a scene between formats: `python scripts/convert.py in.splat out.ply`, as `gs-ssd convert` does."""

import sys

from gs_ssd.cli.convert import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
