"""Scenes and cameras: the Gaussians, their files, and where to look at them from."""

from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.formats import load_gaussians, save_gaussians
from gs_ssd.scene.gaussians import Gaussians

__all__ = ["Cameras", "Gaussians", "load_gaussians", "save_gaussians"]
