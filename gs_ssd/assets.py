"""Where the project's own files lie: beside the package in a checkout, inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from gs_ssd.errors import UserError

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE if (PACKAGE / "configs").is_dir() else PACKAGE.parent
CONFIGS = ROOT / "configs"
DATA = ROOT / "data"
PRIOR = DATA / "prior"


def check_assets() -> None:
    """Raise UserError unless the configuration and the sample data came with the package."""
    for folder in (CONFIGS, DATA / "scenes", PRIOR):
        if not folder.is_dir():
            raise UserError(
                f"this installation of gs_ssd lacks {folder}; install it again (pip install --force-reinstall gs_ssd)"
            )
