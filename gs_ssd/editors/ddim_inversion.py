"""DDIM inversion, then generation under the target prompt: plain guidance, no attention control.

    up:    z_0 = ẑ, DDIM moves along e(z_t, ŷ) with scale 1, to the strength's level
    down:  DDIM moves along e^s(z_t, y), back to clean latents

A move between two levels asks the network at the upper one, both ways, as published inversions do. With y = ŷ and s = 1
the picture comes back, up to what Euler's rule loses. For Gaussians p(z|c) = N(X_c, τ²) and s = 1, in the limit of many
moves from s_t, the picture moves by (X_y − X_ŷ)(1 − τ/√(τ² + s_t²)).
"""

from __future__ import annotations

from itertools import pairwise

import torch

from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.editors.base import Move, SamplingEditor, State, Task, levels
from gs_ssd.errors import UserError


class DDIMInversion(SamplingEditor):
    """Half of the moves invert the source picture, half generate with guidance scale `s`; it ignores earlier edits."""

    name = "ddim_inversion"

    def __init__(self, *, s: float = 7.5, strength: float = 1.0) -> None:
        self.s, self.strength = s, strength

    def moves(self, count: int, schedule: NoiseSchedule, strength: float | None = None) -> list[Move]:
        if count < 2:
            raise UserError(f"steps={count}: {self.name} goes up and comes down, so it takes 2 at least")
        strength = self.strength if strength is None else strength
        up, down = (levels(half, strength, schedule) for half in (count // 2, count - count // 2))
        rising = [Move(low, high, high, "source", 1.0) for high, low in pairwise(up) if high is not None]
        falling = [
            Move(high, low, high, "target", self.s) for high, low in pairwise(down) if high is not None
        ]
        return [*reversed(rising), *falling]

    def start(self, task: Task, moves: list[Move], generator: torch.Generator) -> State:
        return {"z_t": task.z_src, "z": task.z_src}
