"""The run manifest: everything needed to know what was run and to run it again."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from gs_ssd import __version__
from gs_ssd.files import atomic_path

PACKAGES = ("torch", "diffusers", "transformers", "gsplat", "numba", "numpy", "plyfile")


def peak_memory_mb() -> dict[str, float]:
    """Peak resident memory of the process, and of the GPU where there is one, in MB of 10^6 bytes."""
    peak = {"cpu": round(_peak_resident_bytes() / 1e6, 1)}
    if torch.cuda.is_available():
        peak["cuda"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)
    return peak


def _peak_resident_bytes() -> int:
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource  # Unix only

    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return resident if sys.platform == "darwin" else resident << 10  # Linux counts in kilobytes


def environment() -> dict[str, Any]:
    """Versions and hardware."""
    versions: dict[str, str | None] = {"gs_ssd": __version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": versions,
    }


def write_json(content: dict[str, Any], path: str | os.PathLike) -> None:
    with atomic_path(path) as temporary:
        Path(temporary).write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
