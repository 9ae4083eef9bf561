"""Where the project's own files lie, whatever the working directory is."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
DATA = ROOT / "data"
PRIOR = DATA / "prior"
