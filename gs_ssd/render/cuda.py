"""The CUDA rasteriser: gsplat. The only file that imports it."""

from __future__ import annotations

from gsplat import rasterization as _gsplat_rasterization


def rasterization(*args, **kwargs):
    """`gsplat.rasterization` with dense outputs, so that `info` has the shapes of the CPU rasteriser."""
    return _gsplat_rasterization(*args, packed=False, **kwargs)
