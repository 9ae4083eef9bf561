"""Rasterisation of 3D Gaussians. Imports `scene`; knows nothing of diffusion or editing.

Start with `renderer` (scenes to images), then `rasterization` (gsplat's signature and the choice of backend).
The CPU backend reads in the order `projection`, `harmonics`, `tiles`, `composite`, glued to autograd by `cpu`,
on top of `simd` (16-lane vectors for numba) and `threads`.
"""

from gs_ssd.render.compilation import compile_kernels, kernels_are_compiled, kernels_are_kept
from gs_ssd.render.rasterization import rasterization
from gs_ssd.render.renderer import Render, render

__all__ = ["Render", "compile_kernels", "kernels_are_compiled", "kernels_are_kept", "rasterization", "render"]
