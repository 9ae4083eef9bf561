"""Which Gaussians an edit may touch: regions of space. Everything outside stays byte-exact."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.parts import PARTS, load_parts


class Everything:
    """No mask."""

    def __call__(self, gaussians: Gaussians) -> Tensor:
        return torch.ones(len(gaussians), dtype=torch.bool, device=gaussians.device)


class Sphere:
    """The Gaussians whose centre lies within `radius` of `center` [3], world units."""

    def __init__(self, center: Sequence[float], radius: float) -> None:
        self.center, self.radius = list(center), radius

    def __call__(self, gaussians: Gaussians) -> Tensor:
        center = gaussians.means.new_tensor(self.center)
        return _not_empty((gaussians.means - center).norm(dim=-1) <= self.radius, f"sphere {self.__dict__}")


class Box:
    """The Gaussians whose centre lies between the corners `low` and `high` [3], world units."""

    def __init__(self, low: Sequence[float], high: Sequence[float]) -> None:
        self.low, self.high = list(low), list(high)

    def __call__(self, gaussians: Gaussians) -> Tensor:
        means = gaussians.means
        inside = (means >= means.new_tensor(self.low)) & (means <= means.new_tensor(self.high))
        return _not_empty(inside.all(dim=-1), f"box {self.__dict__}")


class Parts:
    """The Gaussians of a sample scene that show one of the parts `names`; the labels lie in the file `path`."""

    def __init__(self, path: str, names: Sequence[str]) -> None:
        unknown = [name for name in names if name not in PARTS]
        if unknown:
            raise UserError(f"no part is called {unknown[0]!r}; there are: {', '.join(PARTS)}")
        self.path, self.names = path, list(names)

    def __call__(self, gaussians: Gaussians) -> Tensor:
        labels = load_parts(self.path, count=len(gaussians)).to(gaussians.device)
        chosen = torch.tensor([PARTS.index(name) for name in self.names], device=gaussians.device)
        return _not_empty(torch.isin(labels, chosen), f"of the parts {', '.join(self.names)}")


def _not_empty(mask: Tensor, what: str) -> Tensor:
    if not bool(mask.any()):
        raise UserError(f"the mask {what} holds no Gaussian; check it against the scene's coordinates")
    return mask
