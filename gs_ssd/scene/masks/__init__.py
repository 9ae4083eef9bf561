"""Which Gaussians an edit may touch; everything else stays byte-exact. One file per kind of selection.

A mask is called as `mask(gaussians, context)` and returns [N] bool. Regions, files, parts, floods and combinations
need no context; masks that look at the scene say in one line what of `MaskContext` they miss.
"""

from gs_ssd.scene.masks.combine import Difference, Grow, Intersection, Invert, Shrink, Union
from gs_ssd.scene.masks.file import File
from gs_ssd.scene.masks.flood import Flood
from gs_ssd.scene.masks.mask import Everything, Mask, MaskContext
from gs_ssd.scene.masks.parts import Parts
from gs_ssd.scene.masks.pictures import Pictures
from gs_ssd.scene.masks.preview import preview, tinted
from gs_ssd.scene.masks.prior import Prior
from gs_ssd.scene.masks.regions import Box, HalfSpace, Sphere
from gs_ssd.scene.masks.text import Text

__all__ = [
    "Box",
    "Difference",
    "Everything",
    "File",
    "Flood",
    "Grow",
    "HalfSpace",
    "Intersection",
    "Invert",
    "Mask",
    "MaskContext",
    "Parts",
    "Pictures",
    "Prior",
    "Shrink",
    "Sphere",
    "Text",
    "Union",
    "preview",
    "tinted",
]
