"""The loop: look, score, pull back. A generator; the caller logs, saves and shows.

Per step a canvas (a scene seen from some views, or a picture) shows its latents z and those of its source, ẑ; the
guidance turns them into the gradient G; ½‖z − sg(z − G)‖²/B sends it through the encoder, and the rasterizer where
there is one, to what is edited. It never reaches the prior's network.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.timesteps import TimestepSampler
from gs_ssd.errors import NonFiniteError
from gs_ssd.guidance.base import Guidance, Step, inject_gradient
from gs_ssd.ranks import ALONE, Ranks


@dataclass
class StepReport:
    """What one step did.

    Attributes:
        step, t: step index and timestep.
        loss: the score surrogate ½‖G‖²/B.
        anchor_loss: value of the anchor losses; 0 for a picture.
        evaluations: noise predictions per view.
        num_gaussians: after the step; 0 for a picture.
        seconds: wall time by phase: "render", "encode", "prior", "backward" and "own" (everything else).
    """

    step: int
    t: int
    loss: float
    anchor_loss: float = 0.0
    evaluations: int = 0
    num_gaussians: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


def totals(reports: Sequence[StepReport]) -> dict[str, float]:
    """Seconds by phase of all steps."""
    phases = dict.fromkeys(phase for report in reports for phase in report.seconds)
    return {phase: sum(report.seconds.get(phase, 0.0) for report in reports) for phase in phases}


@dataclass(frozen=True)
class Observation:
    """What a canvas shows in one step.

    Attributes:
        z: latents [B, C, h, w] with their graph.
        z_src: the source's, without one.
        text: text conditions by prompt name.
        image: image condition [B, C, h, w], where the prior takes one.
        noise: draws ε from a generator; None: plain white noise.
    """

    z: Tensor
    z_src: Tensor
    text: dict[str, Any]
    image: Tensor | None = None
    noise: Callable[[torch.Generator], Tensor] | None = None

    def draw(self, generator: torch.Generator, ranks: Ranks = ALONE) -> Tensor:
        """ε [B, C, h, w] where and as z is: this rank's part of what is drawn for all."""
        if self.noise is not None:
            return self.noise(generator).to(self.z)
        return ranks.noise_like(self.z, generator)


class Stopwatch:
    """Wall time by phase, of one step after the other.

    A GPU works behind the caller's back, and to wait for it after every phase would cost the time that is measured. So
    phases end with an event in its stream, and the times are read off when the step is over. What had not ended then,
    the optimiser's last kernels, counts to the next step.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.seconds: dict[str, float] = {}
        self.marks: list[tuple[str, torch.cuda.Event]] = []
        self.start()

    def start(self) -> None:
        """Begin a step."""
        self.seconds = {}
        if self.device.type == "cuda":
            self._mark("")
        self.last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """End a phase."""
        if self.device.type == "cuda":
            return self._mark(phase)
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self.last
        self.last = now

    def read(self) -> dict[str, float]:
        """The step's seconds by phase."""
        while len(self.marks) > 1 and self.marks[1][1].query():
            (_, begun), (phase, ended) = self.marks[:2]
            if phase:  # what a caller does between two steps is no phase
                self.seconds[phase] = self.seconds.get(phase, 0.0) + begun.elapsed_time(ended) / 1000
            self.marks.pop(0)
        return dict(self.seconds)

    def _mark(self, phase: str) -> None:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        self.marks.append((phase, event))


class Canvas(Protocol):
    """What is edited."""

    def observe(self, generator: torch.Generator, watch: Stopwatch) -> Observation:
        """Look at the canvas; random views are drawn from `generator`."""
        ...

    def settle(self) -> dict[str, Tensor]:
        """After the backward pass: add the regularisers' gradients and mask them.

        Returns scalars by name that must be finite before anything moves; "the anchor loss" among them, if any.
        """
        ...

    def move(self, step: int, num_steps: int) -> int:
        """Take the optimiser's step; returns the number of Gaussians afterwards, 0 for a picture."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that later steps depend on: tensors, numbers, lists and dicts of them."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        ...


def distil(
    canvas: Canvas,
    *,
    prior: DiffusionPrior,
    guidance: Guidance,
    timesteps: TimestepSampler,
    num_steps: int,
    generator: torch.Generator,
    start: int = 0,
    ranks: Ranks = ALONE,
) -> Iterator[StepReport]:
    """Edit `canvas` in place and yield a report per step.

    Args:
        generator: draws views, timesteps and noise, on the CPU, so a seed means the same on every device.
        start: the first step's index, for a run that is resumed.
        ranks: the processes that share the canvas's views; all get the same reports.

    Raises:
        NonFiniteError: names the tensor, step and timestep; the canvas is as it was before that step. In half
            precision the step is done once more in float32 before that.
    """
    watch = Stopwatch(prior.device)
    for step in range(start, num_steps):
        take = partial(_pull, canvas, prior, guidance, timesteps, step, num_steps, generator, watch, ranks)
        try:
            report = take()
        except NonFiniteError as error:
            if not prior.may_overflow:
                raise
            warnings.warn(f"{error} in half precision: done once more in float32", stacklevel=2)
            with prior.in_float32():
                report = take()
        yield report


def _pull(
    canvas: Canvas,
    prior: DiffusionPrior,
    guidance: Guidance,
    timesteps: TimestepSampler,
    step: int,
    num_steps: int,
    generator: torch.Generator,
    watch: Stopwatch,
    ranks: Ranks,
) -> StepReport:
    """One step; raises NonFiniteError before anything moves."""
    watch.start()
    seen = canvas.observe(generator, watch)
    t = timesteps(step, num_steps, prior.schedule, generator)
    grad = guidance(
        prior,
        Step(
            z=seen.z.detach(),
            z_src=seen.z_src,
            noise=seen.draw(generator, ranks),
            t=t,
            schedule=prior.schedule,
            text=seen.text,
            image=seen.image,
            generator=generator,
            ranks=ranks,
        ),
    )
    watch.lap("prior")
    loss = inject_gradient(seen.z, grad)
    loss.backward()
    watch.lap("backward")

    sums = {f"the {guidance.name} gradient": grad.sum()}
    done = take_step(canvas, loss.detach(), sums, step=step, num_steps=num_steps, t=t, ranks=ranks)
    watch.lap("own")
    return StepReport(
        step=step,
        t=t,
        **done,
        evaluations=guidance.evaluations(t, prior.schedule),
        seconds=watch.read(),
    )


def take_step(
    canvas: Canvas,
    loss: Tensor,
    sums: dict[str, Tensor],
    *,
    step: int,
    num_steps: int,
    t: int,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """What follows a backward pass: the numbers are looked at, then the canvas moves.

    Returns the loss, the anchor loss and the number of Gaussians, as a report says them. Raises NonFiniteError for a
    scalar of `sums` or of the canvas that is not finite, before anything moves.
    """
    sums = sums | canvas.settle()
    values = read([loss, *sums.values()], ranks)
    for name, value in zip(sums, values[1:]):
        if not math.isfinite(value):
            raise NonFiniteError(f"{name} is not finite at step {step} (t = {t})")
    return {
        "loss": values[0],
        "anchor_loss": dict(zip(sums, values[1:])).get("the anchor loss", 0.0),
        "num_gaussians": canvas.move(step, num_steps),
    }


def read(scalars: list[Tensor], ranks: Ranks = ALONE) -> list[float]:
    """The means of scalar tensors over the ranks, in one transfer: each would make the host wait for the GPU."""
    place = scalars[0].device  # a second card's prior leaves some there
    values = torch.stack([scalar.to(place, torch.float32) for scalar in scalars])
    ranks.average([values])
    return values.tolist()
