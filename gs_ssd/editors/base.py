"""What a 2D editor is: a walk along noise levels, one move at a time.

Notation (shared by every editor's module; z, ẑ, ε, e(z, c) as in `gs_ssd.guidance.base`):
    s_t        σ_t/α_t, the noise per unit of signal: 0 for clean latents
    x̂0         (z_t − σ_t e)/α_t, the clean latents that a prediction says
    e^s(z, c)  e(z,∅) + s [e(z,c) − e(z,∅)]; for s = 1 a single prediction

A deterministic (DDIM) move from level t to level u keeps x̂0 and e:

    z_u = α_u x̂0 + σ_u e          or, with y = z/α,   y_u = y_t + (s_u − s_t) e

which is Euler's rule for the prior's probability flow. In y it does not depend on how α and σ share the signal, so
that one formula holds for Stable Diffusion (α² + σ² = 1) and for rectified flows (α + σ = 1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gs_ssd.checks import number
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.diffusion.text import TextCondition
from gs_ssd.errors import UserError

LEAST_SIGNAL = 0.02  # below it x̂0 would divide by next to nothing, as a rectified flow's last level does

State = dict[str, Tensor]


@dataclass(frozen=True)
class Task:
    """What an editor is given.

    Attributes:
        prior: predicts the noise.
        z_src: latents of the source pictures ẑ, [B, C, h, w].
        z: those of the pictures as they are now; the same where nothing was edited yet.
        text: conditions by prompt name ("target", "source", "null", "negative"), of one prompt or of B.
        image: the image condition [B, C, h, w] of a prior that takes one.
        draw: fresh unit noise [B, C, h, w] from a generator.
    """

    prior: DiffusionPrior
    z_src: Tensor
    z: Tensor
    text: dict[str, TextCondition]
    image: Tensor | None
    draw: Callable[[torch.Generator], Tensor]

    @property
    def schedule(self) -> NoiseSchedule:
        return self.prior.schedule

    def predict(self, t: int, asked: list[tuple[Tensor, str, bool]]) -> list[Tensor]:
        """Noise predictions at timestep t, in one batched call, for (z_t, prompt, whether it sees the source)."""
        count = len(self.z)
        image = None
        if self.prior.takes_image and self.image is not None:
            none = torch.zeros_like(self.image)
            image = torch.cat([self.image if sees else none for _, _, sees in asked])
        eps = self.prior.predict_noise(
            torch.cat([z_t for z_t, _, _ in asked]),
            t,
            TextCondition.cat([self.text[prompt].expand(count) for _, prompt, _ in asked]),
            image,
        )
        return list(eps.split(count))

    def guided(self, z_t: Tensor, t: int, prompt: str, s: float) -> Tensor:
        """e^s(z_t, c)."""
        if s == 1:
            return self.predict(t, [(z_t, prompt, True)])[0]
        null, eps = self.predict(t, [(z_t, "null", True), (z_t, prompt, True)])
        return null + s * (eps - null)


@dataclass(frozen=True)
class Move:
    """One step of a walk.

    Attributes:
        now, to: timesteps of the levels it leads from and to; None: clean latents.
        t: the timestep that the network is asked at.
        prompt, s: under which prompt, with which guidance scale.
    """

    now: int | None
    to: int | None
    t: int
    prompt: str
    s: float


class Editor(ABC):
    """A 2D editor.

    Attributes:
        name: how reports call it.
        takes_image: whether it needs a prior with an image condition.
        negative_prompt: the negative prompt, where the user gives none; no editor here asks for one.
        s: guidance scale of the target prompt.
        strength: the share of the noise levels that it walks, from 0 (nothing) to 1 (pure noise).
    """

    name: str
    takes_image: bool = False
    negative_prompt: str = ""
    s: float
    strength: float

    @abstractmethod
    def moves(self, count: int, schedule: NoiseSchedule, strength: float | None = None) -> list[Move]:
        """`count` moves, for a strength or the editor's own."""

    @abstractmethod
    def start(self, task: Task, moves: list[Move], generator: torch.Generator) -> State:
        """Tensors before the first move; "z" among them is the picture as clean latents."""

    @abstractmethod
    def advance(self, task: Task, state: State, move: Move, generator: torch.Generator) -> State:
        """The same after a move."""

    def evaluations(self, move: Move) -> int:
        """Noise predictions per picture that a move takes."""
        return 1 if move.s == 1 else 2

    @torch.no_grad()
    def edit(
        self, task: Task, *, count: int, generator: torch.Generator, strength: float | None = None
    ) -> tuple[Tensor, int]:
        """(clean latents [B, C, h, w] of the edited pictures, noise predictions per picture)."""
        moves = self.moves(count, task.schedule, strength)
        state = self.start(task, moves, generator)
        for move in moves:
            state = self.advance(task, state, move, generator)
        return state["z"], sum(self.evaluations(move) for move in moves)

    def prepare(self, prior: DiffusionPrior) -> None:
        """Raise UserError when editor and prior don't fit together."""
        if self.takes_image and not prior.takes_image:
            raise UserError(
                f"{self.name} and diffusion {prior.name} don't fit together; use diffusion=ip2p, or guidance=sdedit"
            )
        if not prior.has_null and self.s != 1:
            raise UserError(
                f"{self.name} compares with the empty prompt, which {prior.name} was not trained on: its guidance is "
                "distilled into it; use a scale of 1 (guidance.s=1), or another model"
            )

    def check_generation(self, prior: DiffusionPrior) -> None:
        """Raise UserError: there is nothing to edit."""
        raise UserError(f"guidance={self.name} edits what is there; to generate, use nfsd, sds or vsd")

    def state_dict(self) -> dict[str, Any]:
        """Nothing: what a walk has reached belongs to what is edited."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027  there is nothing to load
        """The counterpart of `state_dict`."""


class SamplingEditor(Editor):
    """An editor whose moves are DDIM's on its one noisy picture, "z_t"."""

    def predict(self, task: Task, z_t: Tensor, move: Move) -> Tensor:
        """The prediction that a move goes along."""
        return task.guided(z_t, move.t, move.prompt, move.s)

    @torch.no_grad()
    def advance(self, task: Task, state: State, move: Move, generator: torch.Generator) -> State:
        eps = self.predict(task, state["z_t"], move)
        z_t, clean = ddim_move(state["z_t"], eps, task.schedule, move.now, move.to)
        return {"z_t": z_t, "z": clean}

    def noised(self, task: Task, moves: list[Move], generator: torch.Generator) -> State:
        """The pictures as they are now, at the first level."""
        first = moves[0].now
        assert first is not None  # a walk that only comes down starts above
        return {"z_t": task.schedule.add_noise(task.z, task.draw(generator), first), "z": task.z}


def levels(count: int, strength: float, schedule: NoiseSchedule) -> list[int | None]:
    """`count` timesteps evenly down from `strength` of all, then clean latents."""
    number("the strength of an editor", strength, above=0, most=1)
    top = int((schedule.alphas >= LEAST_SIGNAL).nonzero().max())
    ladder = [round(strength * len(schedule) * (count - i) / count) - 1 for i in range(count)]
    return [*(schedule.nearest(min(max(t, 0), top)) for t in ladder), None]


def scales(schedule: NoiseSchedule, t: int | None) -> tuple[float, float]:
    """(α, σ) of a level."""
    return (1.0, 0.0) if t is None else (schedule.alpha(t), schedule.sigma(t))


def ddim_move(
    z_t: Tensor, eps: Tensor, schedule: NoiseSchedule, now: int | None, to: int | None
) -> tuple[Tensor, Tensor]:
    """(z at level `to`, x̂0)."""
    (alpha, sigma), (alpha_to, sigma_to) = scales(schedule, now), scales(schedule, to)
    clean = (z_t - sigma * eps) / alpha
    return alpha_to * clean + sigma_to * eps, clean
