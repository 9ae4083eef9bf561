"""A picture through a 2D editor: the loop whose steps are the editor's moves."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.edit.image import ImageCanvas
from gs_ssd.edit.loop import Observation, StepReport, Stopwatch
from gs_ssd.editors.base import Editor, Task
from gs_ssd.errors import NonFiniteError


def translate(
    canvas: ImageCanvas,
    *,
    prior: DiffusionPrior,
    editor: Editor,
    num_steps: int,
    generator: torch.Generator,
    start: int = 0,
) -> Iterator[StepReport]:
    """Walk `canvas` through the editor's `num_steps` moves, in place, and yield a report per move.

    A report's loss is ½‖Δz‖² of the picture's clean latents. The walk's own tensors stay with the canvas.

    Raises:
        NonFiniteError: names the step and timestep; the canvas is as it was before that move.
    """
    moves = editor.moves(num_steps, prior.schedule)
    z_src = canvas.image.parameter.detach().clone() if canvas.z_src is None else canvas.z_src
    seen = Observation(z_src, z_src, canvas.text, canvas.condition)
    task = Task(prior=prior, z_src=z_src, z=z_src, text=seen.text, image=seen.image, draw=seen.draw)
    for step in range(start, num_steps):
        watch = Stopwatch(prior.device)
        move = moves[step]
        before = canvas.walk if step else editor.start(task, moves, generator)
        after = editor.advance(task, before, move, generator)
        # In memory as a checkpoint gives them back: convolutions round by the layout.
        after = {name: value.contiguous() for name, value in after.items()}
        watch.lap("prior")
        loss = float(0.5 * (after["z"] - before["z"]).pow(2).sum())
        if not math.isfinite(loss):
            raise NonFiniteError(f"the latents of {editor.name} are not finite at step {step} (t = {move.t})")
        canvas.walk = after
        canvas.image.parameter.data.copy_(after["z"])
        watch.lap("own")
        yield StepReport(
            step=step, t=move.t, loss=loss, evaluations=editor.evaluations(move), seconds=watch.read()
        )
