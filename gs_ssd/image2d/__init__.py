"""Pictures instead of scenes: the same guidances edit an image, or make one from noise."""

from gs_ssd.image2d.decomposition import decompose
from gs_ssd.image2d.distillation import LATENT_RATE, ImageReport, LatentImage, PixelImage, distil
from gs_ssd.image2d.files import load_image, save_image

__all__ = [
    "LATENT_RATE",
    "ImageReport",
    "LatentImage",
    "PixelImage",
    "decompose",
    "distil",
    "load_image",
    "save_image",
]
