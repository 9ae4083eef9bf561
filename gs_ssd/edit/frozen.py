"""What a view shows of a scene most of which is frozen.

A pixel's transmittance falls with every Gaussian in front, and the pixel stops once little is left. So a frozen
Gaussian that colours no pixel and stops none while the frozen ones are drawn alone does neither in any step, wherever
those that may change go. The picture without it, and every gradient, has the same bits. What is left to draw in a step
are the frozen ones that its views show, and everything that may change.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gs_ssd.edit.trainable import TrainableScene
from gs_ssd.render import Render
from gs_ssd.scene.cameras import Cameras

# Views of which it is kept, a bit per frozen Gaussian: together no more than half of what the optimiser would keep of
# it if it were not frozen (a gradient and two moments of at least 14 numbers, and as many parameters).
MOST = 4 * 14 * 32 // 2


class FrozenViews:
    """Which frozen Gaussians some views show; kept by view index for a fixed view set.

    To find that out costs a picture of the frozen ones. A view that shows most of them does not repay it, and `helps`
    becomes false: no further views are looked at.
    """

    def __init__(self, scene: TrainableScene, renderer: Callable[..., Render]) -> None:
        self.scene, self.renderer = scene, renderer
        self.cache: dict[int, np.ndarray] = {}
        self.helps = True

    @torch.no_grad()
    def __call__(self, cameras: Cameras, indices: Tensor | None) -> Tensor | None:
        """The sorted ranks [n] of those frozen Gaussians (see `Rows`) that the views show together, or more.

        None where that is not known, or not worth knowing: the whole scene is to be drawn.
        """
        rows = self.scene.rows
        if rows is None or rows.places.is_cuda or 2 * len(rows.places) > len(self.scene):
            return None
        if indices is None:
            return self._shown(cameras).nonzero()[:, 0] if self.helps else None
        keys = indices.tolist()
        for position, key in enumerate(keys):
            if key not in self.cache:
                if len(self.cache) >= MOST or not self.helps:
                    return None
                self.cache[key] = np.packbits(self._shown(cameras[position]).numpy())
        together = np.bitwise_or.reduce([self.cache[key] for key in keys])
        return torch.from_numpy(np.flatnonzero(np.unpackbits(together).view(np.bool_)))

    def _shown(self, cameras: Cameras) -> Tensor:
        """The mask [F] of the frozen Gaussians."""
        rows = self.scene.rows
        assert rows is not None
        out = self.renderer(self.scene.gaussians, cameras, whole=self.scene.frozen_alone, shown=True)
        shown = out.info["shown"].any(dim=0)[rows.index < 0]
        self.helps = bool(2 * shown.sum() <= len(shown))
        return shown
