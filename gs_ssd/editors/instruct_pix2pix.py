"""InstructPix2Pix (Brooks et al., CVPR 2023) as Instruct-NeRF2NeRF uses it: the current picture is noised and denoised
under the instruction y, while the network looks at the source picture c_I.

    e = e(z,∅,∅) + s_I [e(z,c_I,∅) − e(z,∅,∅)] + s_T [e(z,c_I,y) − e(z,c_I,∅)]
"""

from __future__ import annotations

import torch
from torch import Tensor

from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.editors.base import Move, SamplingEditor, State, Task
from gs_ssd.editors.sdedit import SDEdit


class InstructPix2Pix(SamplingEditor):
    """The editor with text scale `s` (s_T) and image scale `s_i`, as published; strength 1 is a fresh edit."""

    name = "instruct_pix2pix"
    takes_image = True

    def __init__(self, *, s: float = 7.5, s_i: float = 1.5, strength: float = 1.0) -> None:
        self.s, self.s_i, self.strength = s, s_i, strength

    def moves(self, count: int, schedule: NoiseSchedule, strength: float | None = None) -> list[Move]:
        return SDEdit(s=self.s, strength=self.strength).moves(count, schedule, strength)

    def start(self, task: Task, moves: list[Move], generator: torch.Generator) -> State:
        return self.noised(task, moves, generator)

    def predict(self, task: Task, z_t: Tensor, move: Move) -> Tensor:
        none, image, text = task.predict(
            move.t, [(z_t, "null", False), (z_t, "null", True), (z_t, move.prompt, True)]
        )
        return none + self.s_i * (image - none) + self.s * (text - image)

    def evaluations(self, move: Move) -> int:
        return 3
