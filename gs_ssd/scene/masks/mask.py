"""What a selection is: a callable that says of each Gaussian whether an edit may touch it."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.frame import SceneFrame
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.views import orbit

_DEGREES = 45.0  # field of view where the scene names none


@dataclass(frozen=True)
class MaskContext:
    """What a mask may ask about the edit; each mask says which of it is missing.

    Attributes:
        renderer: (gaussians, cameras) -> an object with `rgb` [C, H, W, 3], as `gs_ssd.render.render`.
        frame: where the object is; the selection is looked at from around it.
        cameras: the user's own cameras, where there are any.
        views: the scene's view settings (`gs_ssd.scene.views.training_views`): lens, elevation and front.
        prior: a diffusion prior (`gs_ssd.diffusion.prior`).
        source, target: the two prompts.
    """

    renderer: Callable[[Gaussians, Cameras], Any] | None = None
    frame: SceneFrame | None = None
    cameras: Cameras | None = None
    views: Mapping[str, Any] = field(default_factory=dict)
    prior: Any = None
    source: str = ""
    target: str = ""

    def need(self, mask: object, *names: str) -> None:
        """Raise UserError for the first of `names` that isn't there."""
        for name in names:
            if not getattr(self, name):
                raise UserError(f"mask={type(mask).__name__.lower()} needs {_REMEDIES[name]}")

    def around(self, count: int, size: int) -> Cameras:
        """`count` views of size x size pixels: the user's, evenly chosen, or an orbit at the scene's own elevation."""
        if self.cameras is not None:
            chosen = torch.linspace(0, len(self.cameras) - 1, min(count, len(self.cameras))).round().long()
            return self.cameras[chosen].resized(size, size)
        assert self.frame is not None
        low, high = self.views.get("elevation_degrees", (0.0, 20.0))
        lens = self.views.get("fov_degrees", (_DEGREES, _DEGREES))
        return orbit(
            self.frame,
            count,
            width=size,
            height=size,
            fov_degrees=sum(lens) / 2,
            elevation_degrees=(low + high) / 2,
            front_azimuth_degrees=self.views.get("front_azimuth_degrees", 0.0),
        )


_REMEDIES = {
    "renderer": "a renderer; give MaskContext(renderer=gs_ssd.render.render)",
    "frame": "the scene's frame; give MaskContext(frame=find_frame(gaussians))",
    "cameras": "the cameras that its pictures were taken with; give scene.cameras=",
    "prior": "a diffusion prior; give MaskContext(prior=load_prior(...))",
    "source": "prompt.source, what the scene shows",
    "target": "prompt.target, what it shall become",
}


class Mask(ABC):
    """A selection. A subclass keeps its constructor's arguments as attributes of the same names."""

    @abstractmethod
    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        """The selected Gaussians, [N] bool on the scene's device."""

    def __call__(self, gaussians: Gaussians, context: MaskContext | None = None) -> Tensor:
        """The selection [N] bool. Raises UserError for an empty one, warns about one that holds everything."""
        with torch.no_grad():
            chosen = self.find(gaussians, context or MaskContext())
        if chosen.shape != (len(gaussians),) or chosen.dtype != torch.bool:
            raise ValueError(
                f"{self} gave {chosen.dtype} {tuple(chosen.shape)}, expected bool ({len(gaussians)},)"
            )
        if not bool(chosen.any()):
            raise UserError(f"the mask {self} holds no Gaussian; {self.hint}")
        if bool(chosen.all()) and not self.may_hold_all:
            warnings.warn(
                f"the mask {self} holds all {len(gaussians):,} Gaussians, so nothing is protected; {self.hint}",
                stacklevel=2,
            )
        return chosen

    hint = "check it against the scene's coordinates"
    may_hold_all = False

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in vars(self).items() if value is not None)
        return f"{type(self).__name__.lower()} ({settings})" if settings else type(self).__name__.lower()


class Everything(Mask):
    """No mask."""

    may_hold_all = True

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        return torch.ones(len(gaussians), dtype=torch.bool, device=gaussians.device)
