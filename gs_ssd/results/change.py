"""The no-edit guard: says so when a run has changed nothing a person could see."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gs_ssd.scene.gaussians import Gaussians

VISIBLE = 0.04  # a change of 10/255 in the most changed thousandth of the pixels is the least one can see


@dataclass(frozen=True)
class Change:
    """How much an edit changed.

    Attributes:
        pixels: 99.9th percentile of |after − before| over all pixels and channels of the views, in [0, 1].
        mean: mean |after − before|.
        parameters: root mean square change of each stored tensor; after densification, the change of their number.
    """

    pixels: float
    mean: float
    parameters: dict[str, float]

    @property
    def visible(self) -> bool:
        return self.pixels >= VISIBLE

    def __str__(self) -> str:
        moved = ", ".join(f"{name} {value:.2g}" for name, value in self.parameters.items())
        return f"pixels {self.pixels:.3g} (99.9th percentile), mean {self.mean:.3g}; parameters: {moved}"


def measure_change(before: Gaussians, after: Gaussians, views_before: Tensor, views_after: Tensor) -> Change:
    """Compare two scenes and their renders [V, H, W, 3] from the same cameras."""
    difference = (views_after - views_before).abs()
    count = max(difference.numel() // 1000, 1)
    parameters = {}
    if len(before) == len(after):
        for name, value in before.tensors().items():
            if value.numel():
                parameters[name] = float((after.tensors()[name] - value).pow(2).mean().sqrt())
    else:
        parameters["number of Gaussians"] = float(len(after) - len(before))
    return Change(
        pixels=float(torch.topk(difference.flatten(), count).values[-1]),
        mean=float(difference.mean()),
        parameters=parameters,
    )
