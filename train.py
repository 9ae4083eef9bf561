"""Edit a 3D Gaussian Splatting scene with a sentence: `python train.py scene=face prompt=spiderman`.

The same as `gs-ssd edit`. `python train.py --help` shows every choice and setting.
"""

import sys

from gs_ssd.cli.edit import main
from gs_ssd.cli.signals import end_at_once

if __name__ == "__main__":
    end_at_once()
    code = main(sys.argv[1:])
    end_at_once()
    sys.exit(code)
