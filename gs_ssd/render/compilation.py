"""Where the kernels' machine code is kept, and whether it is there yet.

Compiling all kernels takes the better part of a minute, so numba keeps the machine code on disk: beside the sources,
or else in the user's cache directory, or in `NUMBA_CACHE_DIR`. Where none is writable every process compiles anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import warnings
from pathlib import Path
from typing import Any

import torch
from numba import njit, types

_KERNEL_FILES = ("composite", "harmonics", "projection", "simd", "threads", "tiles")
# The kernels that Python calls; the others are compiled into them.
ENTRY_POINTS: list[Any] = []


def kernel(function, **options):
    """`njit` without the GIL, with the machine code cached on disk where some cache directory is writable."""
    with without_cache_if_need_be():
        dispatcher = njit(nogil=True, cache=True, **options)(function)
        # numba itself would notice a change of this function's file, but not of the files it calls into. As part of
        # the version it is compared before the rest of an index is unpickled, which may name types that are gone.
        dispatcher._cache._cache_file._version += f" {_sources()}"
        return dispatcher
    return njit(nogil=True, **options)(function)


def task(function):
    """A `kernel` that makes no arrays (see `simd.room`).

    So numba need not count references, which takes an atomic operation or two for every array that a helper is given.
    """
    return kernel(function, _nrt=False)


def entry_point(function):
    """A `kernel` that Python calls."""
    ENTRY_POINTS.append(kernel(function))
    return ENTRY_POINTS[-1]


@contextlib.contextmanager
def without_cache_if_need_be():
    """Swallow numba's complaint that it has no place for a cache; say so once."""
    try:
        yield
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        _warn_once()


@functools.cache
def _warn_once():
    warnings.warn(
        "no folder for the compiled CPU kernels is writable, so every start compiles them anew; "
        "set NUMBA_CACHE_DIR to one that is",
        stacklevel=5,
    )


@functools.cache
def _sources() -> str:
    """A digest of all files with kernels or what is compiled into them."""
    folder = Path(__file__).parent
    return hashlib.sha256(
        b"".join((folder / f"{name}.py").read_bytes() for name in _KERNEL_FILES)
    ).hexdigest()


def kernels_are_compiled(device: str | torch.device = "cpu") -> bool:
    """Whether rendering on `device` can start at once. If not, the first picture waits for `compile_kernels()`."""
    if torch.device(device).type == "cuda":
        from gs_ssd.render import cuda

        return cuda.is_compiled()
    return all(
        any(_is_single(sig) for sig in (*kernel.signatures, *_cached(kernel))) for kernel in ENTRY_POINTS
    )


def kernels_are_kept() -> bool:
    """Whether the CPU kernels' machine code outlives the process; not where no folder for it is writable."""
    return all(hasattr(kernel._cache, "_cache_file") for kernel in ENTRY_POINTS)


def _is_single(signature) -> bool:
    """Whether it is that of float32 scenes."""
    return any(getattr(argument, "dtype", None) == types.float32 for argument in signature)


def _cached(kernel) -> list:
    """The signatures of which the cache holds machine code for this CPU."""
    if not hasattr(kernel._cache, "_cache_file"):
        return []
    here = kernel.targetctx.codegen().magic_tuple()
    return [signature for signature, machine, _ in kernel._cache._cache_file._load_index() if machine == here]


def compile_kernels(device: str | torch.device = "cpu") -> None:
    """Compile all kernels that a float32 scene needs, or load them from the cache.

    On the CPU that takes the better part of a minute, on CUDA minutes.

    Raises:
        UserError: on CUDA, where there is no compiler for gsplat's kernels or it failed.
    """
    if torch.device(device).type == "cuda":
        from gs_ssd.render import cuda

        return cuda.compile_kernels()
    from gs_ssd.render.rasterization import rasterization  # which imports the kernels, which import this file

    means = torch.tensor([[0.0, 0, 1]], requires_grad=True)
    one, eye = torch.ones(1), torch.eye(4)
    image, _, _ = rasterization(
        means, one.expand(1, 4), one.expand(1, 3), one, one.expand(1, 4, 3), eye[None], eye[None, :3, :3], 16, 16,
        sh_degree=1, shown=True,
    )  # fmt: skip
    image.sum().backward()
