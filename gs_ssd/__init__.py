"""Text-guided editing of 3D Gaussian Splatting scenes by Stable Score Distillation.

    scene = gs_ssd.Scene.sample("face")
    edit = gs_ssd.SceneEdit(scene, gs_ssd.Prompts("a photo of a man", "a photo of a clown"), num_steps=300)
    for report in edit:
        print(report.step, report.loss)
    edit.finish().save("out")

The names below are loaded when they are first used, so that importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from gs_ssd.diffusion.load import load_prior
    from gs_ssd.errors import NonFiniteError, UserError
    from gs_ssd.scene.gaussians import Gaussians
    from gs_ssd.scene.scene import Scene
    from gs_ssd.session.config import from_config
    from gs_ssd.session.edit import SceneEdit
    from gs_ssd.session.image import ImageEdit, ImageResult
    from gs_ssd.session.prompts import Prompts
    from gs_ssd.session.result import EditResult

_HOMES = {
    "EditResult": "gs_ssd.session.result",
    "Gaussians": "gs_ssd.scene.gaussians",
    "ImageEdit": "gs_ssd.session.image",
    "ImageResult": "gs_ssd.session.image",
    "NonFiniteError": "gs_ssd.errors",
    "Prompts": "gs_ssd.session.prompts",
    "Scene": "gs_ssd.scene.scene",
    "SceneEdit": "gs_ssd.session.edit",
    "UserError": "gs_ssd.errors",
    "from_config": "gs_ssd.session.config",
    "load_prior": "gs_ssd.diffusion.load",
}

__all__ = [
    "EditResult",
    "Gaussians",
    "ImageEdit",
    "ImageResult",
    "NonFiniteError",
    "Prompts",
    "Scene",
    "SceneEdit",
    "UserError",
    "__version__",
    "from_config",
    "load_prior",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gs_ssd' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
