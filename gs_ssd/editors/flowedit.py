"""FlowEdit (Kulikov et al., ICCV 2025): walk from the source picture to the edit without inverting it.

For a rectified flow the authors integrate dZ = [v(Z_t^tar, y) − v(Z_t^src, ŷ)] dt, where Z_t^src = (1 − t) ẑ + t ε with
fresh noise in each move and Z_t^tar = Z_t + Z_t^src − ẑ. On any schedule the two velocities are DDIM moves of two noisy
pictures that share their noise. With the change of the clean latents d and y = z/α (see `gs_ssd.editors.base`):

    z_t^src = α_t ẑ + σ_t ε,    z_t^tar = z_t^src + α_t d
    d  ←  d + (s_u − s_t) [e^s(z_t^tar, y) − e^ŝ(z_t^src, ŷ)],   d = 0 at first,   edit = ẑ + d

On a rectified flow that is the authors' update, to the letter: there α d is their Z_t − ẑ. So FlowEdit is DDS by plain
descent with falling timesteps and the rate s_t − s_u, where both scales are equal. With y = ŷ and equal scales d stays
0; for Gaussians p(z|c) = N(X_c, τ²) it ends at (X_y − X_ŷ)(1 − τ/√(τ² + s_t²)) in the limit of many moves.
"""

from __future__ import annotations

import torch

from gs_ssd.checks import whole
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.editors.base import Editor, Move, State, Task, scales
from gs_ssd.editors.sdedit import SDEdit
from gs_ssd.errors import UserError


class FlowEdit(Editor):
    """FlowEdit.

    Args:
        s, s_src: guidance scales of target and source; published for SD 3: 13.5 and 3.5.
        strength: the first level; published for SD 3: 33 of 50 steps, for FLUX 24 of 28.
        draws: noises that each move averages over.

    The authors' last n_min steps of plain sampling, 0 by default, are left out.
    """

    name = "flowedit"

    def __init__(
        self, *, s: float = 13.5, s_src: float = 3.5, strength: float = 0.66, draws: int = 1
    ) -> None:
        self.s, self.s_src, self.strength = s, s_src, strength
        self.draws = whole("guidance.draws", draws, least=1)

    def prepare(self, prior: DiffusionPrior) -> None:
        super().prepare(prior)
        if not prior.has_null and self.s_src != 1:
            raise UserError(
                f"guidance.s_src={self.s_src} compares with the empty prompt, which {prior.name} was not trained on; "
                "use guidance.s_src=1"
            )

    def moves(self, count: int, schedule: NoiseSchedule, strength: float | None = None) -> list[Move]:
        return SDEdit(s=self.s, strength=self.strength).moves(count, schedule, strength)

    def start(self, task: Task, moves: list[Move], generator: torch.Generator) -> State:
        return {"z": task.z_src}

    @torch.no_grad()
    def advance(self, task: Task, state: State, move: Move, generator: torch.Generator) -> State:
        (alpha, sigma), (alpha_to, sigma_to) = (scales(task.schedule, t) for t in (move.now, move.to))
        difference = torch.zeros_like(task.z_src)
        for _ in range(self.draws):
            noise = task.draw(generator)
            source = alpha * task.z_src + sigma * noise
            target = alpha * state["z"] + sigma * noise
            difference = difference + self._difference(task, source, target, move) / self.draws
        return {"z": state["z"] + (sigma_to / alpha_to - sigma / alpha) * difference}

    def _difference(self, task: Task, source: torch.Tensor, target: torch.Tensor, move: Move) -> torch.Tensor:
        """e^s(z_t^tar, y) − e^ŝ(z_t^src, ŷ), in one call."""
        asked = [
            (z_t, name, True)
            for z_t, prompt, s in ((target, "target", self.s), (source, "source", self.s_src))
            for name in ([prompt] if s == 1 else ["null", prompt])
        ]
        predictions = iter(task.predict(move.t, asked))

        def guided(s: float) -> torch.Tensor:
            first = next(predictions)
            return first if s == 1 else first + s * (next(predictions) - first)

        return guided(self.s) - guided(self.s_src)

    def evaluations(self, move: Move) -> int:
        return self.draws * ((1 if self.s == 1 else 2) + (1 if self.s_src == 1 else 2))
