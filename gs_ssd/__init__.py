"""gs_ssd: text-guided editing of 3D Gaussian Splatting scenes by score distillation."""

__version__ = "0.1.0"
