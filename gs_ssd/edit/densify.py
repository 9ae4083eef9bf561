"""Densification and pruning: grow Gaussians where the edit pulls hardest on the screen.

As in GaussianEditor, every `every` steps the Gaussians with the largest average screen-space gradient (the top
`percent`) are cloned if small and split if large; nearly transparent ones (and giants, if asked) are removed. Only
editable Gaussians take part. A percentage needs no absolute threshold, whose scale would depend on the loss.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from gsplat.strategy.ops import duplicate, remove, split
from torch import Tensor

from gs_ssd.checks import number, whole
from gs_ssd.edit.trainable import TrainableScene
from gs_ssd.ranks import ALONE, Ranks
from gs_ssd.scene.gaussians import Rows


class Densifier:
    """Top-percent densification.

    Args:
        every: steps between two densifications.
        start, stop: first step, and the step from which on nothing is added.
        percent: share of the visible Gaussians that is densified each time.
        min_opacity: Gaussians below it are removed.
        split_size: Gaussians whose largest standard deviation exceeds this share of the extent are split.
        max_size: Gaussians whose largest standard deviation exceeds this share of the extent are removed; None: none.
            A few giants are enough to veil a scene that is generated.
        max_gaussians: nothing is added beyond this number.
    """

    def __init__(
        self,
        *,
        every: int = 100,
        start: int = 100,
        stop: int = 1500,
        percent: float = 0.01,
        min_opacity: float = 0.005,
        split_size: float = 0.01,
        max_size: float | None = None,
        max_gaussians: int = 5_000_000,
    ) -> None:
        whole("densify.every", every, least=1)
        whole("densify.start", start, least=0)
        whole("densify.stop", stop, least=0)
        whole("densify.max_gaussians", max_gaussians, least=0)
        number("densify.percent", percent, least=0, most=1)
        number("densify.min_opacity", min_opacity, least=0, below=1)
        number("densify.split_size", split_size, least=0)
        if max_size is not None:
            number("densify.max_size", max_size, above=0)
        self.every, self.start, self.stop = every, start, stop
        self.percent, self.min_opacity, self.split_size = percent, min_opacity, split_size
        self.max_size, self.max_gaussians = max_size, max_gaussians
        self.count = 0  # densifications so far = the generation of the next new Gaussians
        self.reset()

    def reset(self) -> None:
        self.gradient_sum = torch.zeros(0)
        self.visible_count = torch.zeros(0)

    @torch.no_grad()
    def observe(self, info: dict, rows: Rows | None, ranks: Ranks = ALONE) -> None:
        """Accumulate ‖∂L/∂(screen xy)‖ in normalised device coordinates for the editable Gaussians each camera sees.

        `rows` says which those are among the rendered; None: all.
        L is the mean over the views of all `ranks`, and each of them has that over its own.
        """
        gradient = info["means2d"].grad
        if gradient is None:
            return
        radii = info["radii"]
        if rows is not None:
            gradient, radii = gradient[:, rows.places], radii[:, rows.places]
        norms = torch.hypot(gradient[..., 0] * (info["width"] / 2), gradient[..., 1] * (info["height"] / 2))
        visible = radii[..., 0] > 0
        if len(self.gradient_sum) != norms.shape[-1]:
            self.gradient_sum = norms.new_zeros(norms.shape[-1])
            self.visible_count = norms.new_zeros(norms.shape[-1])
        self.gradient_sum, self.visible_count = self.gradient_sum.to(norms), self.visible_count.to(norms)
        total, count = norms.mul_(visible).sum(dim=0), visible.sum(dim=0)
        ranks.add_up([total, count])
        self.gradient_sum += total / ranks.size
        self.visible_count += count

    def due(self, step: int) -> bool:
        return step >= self.start and step < self.stop and step % self.every == 0

    @torch.no_grad()
    def densify(self, scene: TrainableScene) -> tuple[int, int]:
        """Clone, split and prune now; returns (added, removed). Warns where nothing editable would be left."""
        self.count += 1
        before, loaded = len(scene), len(scene.params["means"])
        if len(self.gradient_sum) == loaded and before < self.max_gaussians:
            self._grow(scene)
        added = len(scene.params["means"]) - loaded
        useless = torch.sigmoid(scene.params["opacities"]) < self.min_opacity
        if self.max_size is not None:
            useless |= scene.params["scales"].exp().amax(dim=-1) > self.max_size * scene.extent
        removed = int(useless.sum())
        if removed == len(useless):
            warnings.warn(
                f"densify.min_opacity={self.min_opacity:g} and densify.max_size={self.max_size} would remove all "
                f"{removed:,} Gaussians that may change; they stay, choose other limits",
                stacklevel=2,
            )
            removed = 0
        elif removed:
            remove(scene.params, scene.optimizers, {}, useless)
        scene.arrange()
        self.reset()
        return added, removed

    def _grow(self, scene: TrainableScene) -> None:
        average = self.gradient_sum / self.visible_count.clamp(min=1)
        selected = top_percent(average, self.percent)
        large = scene.params["scales"].exp().amax(dim=-1) > self.split_size * scene.extent
        clone, cut = selected & ~large, selected & large
        cloned = int(clone.sum())
        if cloned:
            # gsplat appends the copies, so the parents keep their place and their generation.
            duplicate(scene.params, scene.optimizers, {}, clone)
            cut = torch.cat([cut, cut.new_zeros(cloned)])
            scene.params["generation"][-cloned:] = self.count
        halved = int(cut.sum())
        if halved:
            split(scene.params, scene.optimizers, {}, cut)
            scene.params["generation"][-2 * halved :] = self.count

    def state_dict(self) -> dict[str, Any]:
        """The count and the gradients gathered since the last densification."""
        return {"count": self.count, "gradient_sum": self.gradient_sum, "visible_count": self.visible_count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.count = state["count"]
        self.gradient_sum, self.visible_count = state["gradient_sum"], state["visible_count"]


def top_percent(values: Tensor, share: float) -> Tensor:
    """The mask of the largest `share` of the non-zero entries of `values` [N] (none if all are zero)."""
    nonzero = int((values > 0).sum())
    keep = round(share * nonzero)
    if keep == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    mask = torch.zeros_like(values, dtype=torch.bool)
    mask[values.topk(keep).indices] = True
    return mask & (values > 0)
