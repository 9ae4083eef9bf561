"""Scenes and cameras: the Gaussians, their files, and where to look at them from."""

from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.formats import load_gaussians, save_gaussians
from gs_ssd.scene.frame import SceneFrame, find_frame
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.views import FixedViews, OrbitViews, orbit

__all__ = [
    "Cameras",
    "FixedViews",
    "Gaussians",
    "OrbitViews",
    "SceneFrame",
    "find_frame",
    "load_gaussians",
    "orbit",
    "save_gaussians",
]
