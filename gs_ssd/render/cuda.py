"""The CUDA rasteriser: gsplat, which compiles its kernels when they are first needed. Nothing else here imports it."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import torch
from torch.utils import cpp_extension

from gs_ssd.errors import UserError


def rasterization(*args, **kwargs):
    """`gsplat.rasterization` with dense outputs, so that `info` has the shapes of the CPU rasteriser."""
    import gsplat

    return gsplat.rasterization(*args, packed=False, **kwargs)


def is_compiled() -> bool:
    """Whether gsplat was installed or has been compiled with its kernels."""
    if importlib.util.find_spec("gsplat.csrc") is not None:
        return True
    folder = Path(cpp_extension._get_build_directory("gsplat_cuda", verbose=False))
    return any((folder / f"gsplat_cuda{suffix}").exists() for suffix in (".so", ".lib", ".pyd"))


def compile_kernels() -> None:
    """Load gsplat's kernels; the first time this compiles them, which takes minutes.

    Raises:
        UserError: there is no CUDA compiler, or it failed.
    """
    if not is_compiled() and not _has_compiler():
        version = torch.version.cuda or "12 or 13"
        raise UserError(
            f"rendering on CUDA needs nvcc of CUDA {version} to compile gsplat's kernels once: install the toolkit "
            "(conda env create -f environment.yml brings it) and set CUDA_HOME, or use device=cpu"
        )
    try:
        from gsplat.cuda._backend import _C
    except (RuntimeError, OSError, ImportError) as error:
        lines = str(error).splitlines() or [repr(error)]
        reason = next((line for line in lines if "error:" in line.lower()), lines[0]).strip()
        raise UserError(
            f"gsplat's CUDA kernels can't be compiled or loaded: {reason[:300]}; VERBOSE=1 shows everything, "
            "environment.yml lists compilers that fit, device=cpu does without"
        ) from error
    if _C is None:
        raise UserError("gsplat found no CUDA toolkit; set CUDA_HOME to it, or use device=cpu")


def _has_compiler() -> bool:
    """gsplat's own rule."""
    home = cpp_extension._find_cuda_home()
    return home is not None and (
        os.path.isfile(os.path.join(home, "bin", "nvcc")) or shutil.which("nvcc") is not None
    )
