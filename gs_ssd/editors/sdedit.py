"""SDEdit (Meng et al., ICLR 2022): noise the picture part of the way, and denoise it under the target prompt.

z_t = α_t z + σ_t ε   at the strength's level,   then DDIM moves along e^s(z_t, y) down to clean latents
"""

from __future__ import annotations

from itertools import pairwise

import torch

from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.editors.base import Move, SamplingEditor, State, Task, levels


class SDEdit(SamplingEditor):
    """SDEdit with guidance scale `s`; the more `strength`, the less of the picture stays."""

    name = "sdedit"

    def __init__(self, *, s: float = 7.5, strength: float = 0.75) -> None:
        self.s, self.strength = s, strength

    def moves(self, count: int, schedule: NoiseSchedule, strength: float | None = None) -> list[Move]:
        ladder = levels(count, self.strength if strength is None else strength, schedule)
        return [Move(now, to, now, "target", self.s) for now, to in pairwise(ladder) if now is not None]

    def start(self, task: Task, moves: list[Move], generator: torch.Generator) -> State:
        return self.noised(task, moves, generator)
