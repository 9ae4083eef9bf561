"""The labelled parts of a sample scene."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.masks.mask import Mask, MaskContext
from gs_ssd.scene.parts import PARTS, load_parts


class Parts(Mask):
    """The Gaussians of a sample scene that show one of the parts `names`; the labels lie in the file `path`."""

    def __init__(self, path: str, names: Sequence[str]) -> None:
        names = [names] if isinstance(names, str) else list(names)
        unknown = [name for name in names if name not in PARTS]
        if unknown:
            raise UserError(f"no part is called {unknown[0]!r}; there are: {', '.join(PARTS)}")
        self.path, self.names = path, names

    hint = f"the parts are {', '.join(PARTS)}"

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        labels = load_parts(self.path, count=len(gaussians)).to(gaussians.device)
        chosen = torch.tensor([PARTS.index(name) for name in self.names], device=gaussians.device)
        return torch.isin(labels, chosen)
