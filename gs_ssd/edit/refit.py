"""Edit-then-refit: pictures of the scene are edited in 2D, and the scene is fitted to them, in turn.

    every so often   picture_k ← editor(render_k; source_k, prompts)
    every step       L = w_l1 |render_k − picture_k| + w_ssim (1 − SSIM)   for a view k, back into the Gaussians

The methods of this family differ in which pictures are edited when, how far, and whether together:

    Instruct-NeRF2NeRF (Haque et al., ICCV 2023), on Gaussians Instruct-GS2GS: `when="every"`, one view every 10 steps
        (or `when="all"`, all views every 2,500), from a noise level drawn at random; a view that was not edited yet is
        fitted to its source picture.
    GaussianEditor (Chen et al., CVPR 2024): `when="first"`, each view when it is first seen, and one every 10 steps;
        anchors and densification by percentage (`gs_ssd.edit.anchors`, `densify`), inside a mask.
    DGE (Chen et al., ECCV 2024): `when="all"`, all views together, at lower noise levels each time, in groups whose
        self-attention is shared (`joint`).

docs/methods.md says what of each is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gs_ssd.checks import choice, interval, number, whole
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.edit.loop import StepReport, Stopwatch, take_step
from gs_ssd.edit.photometric import photometric
from gs_ssd.edit.splats import SplatCanvas
from gs_ssd.editors import DDIMInversion, Editor, FlowEdit, InstructPix2Pix, SDEdit
from gs_ssd.errors import UserError
from gs_ssd.scene.views import FixedViews

EDITORS: dict[str, type[Editor]] = {
    editor.name: editor for editor in (DDIMInversion, FlowEdit, InstructPix2Pix, SDEdit)
}
WHEN = ("every", "first", "all")


@dataclass(frozen=True)
class Edited:
    """What the 2D editing of one step was: the first timestep, and noise predictions of all pictures together."""

    t: int = 0
    evaluations: int = 0


class Refit:
    """A method of the family; it keeps the edited pictures.

    Args:
        name: how reports call it.
        editor: a 2D editor, its name, or "auto": instruct_pix2pix on a prior that takes an image, else sdedit.
        s: its guidance scale; None: its own.
        when: which views are edited: the step's own "every" `every` steps, that and each at "first" sight, or "all".
        every: steps between two editings.
        strength: (least, largest) share of the noise levels that an editing walks; each draws its own.
        rounds: instead the share of the first editing, the second, and so on; the last one stays.
        moves: of the editor, per picture.
        joint: pictures whose self-attention is shared, of those edited together; 1: none.
        views: how many of the training views take part, evenly spread among them; None: all.
        w_l1, w_ssim: weights of the photometric loss.
    """

    negative_prompt = ""

    def __init__(
        self,
        *,
        name: str = "refit",
        editor: Editor | str = "auto",
        s: float | None = None,
        when: str = "every",
        every: int = 10,
        strength: Sequence[float] = (0.02, 0.98),
        rounds: Sequence[float] | None = None,
        moves: int = 20,
        joint: int = 1,
        views: int | None = None,
        w_l1: float = 10.0,
        w_ssim: float = 10.0,
    ) -> None:
        if isinstance(editor, str):
            choice("guidance.editor", editor, ["auto", *EDITORS])
        elif not isinstance(editor, Editor):
            raise ValueError(
                f"editor={editor} must be auto, {', '.join(EDITORS)} or settings with a _target_"
            )
        self.name, self.editor, self.s = name, editor, s
        self.when = choice("guidance.when", when, WHEN)
        self.every = whole("guidance.every", every, least=1)
        self.strength = interval("guidance.strength", strength, least=1e-3, most=1)
        self.rounds = (
            None if rounds is None else [number("guidance.rounds", r, above=0, most=1) for r in rounds]
        )
        self.moves = whole("guidance.moves", moves, least=1)
        self.joint = whole("guidance.joint", joint, least=1)
        self.views = None if views is None else whole("guidance.views", views, least=1)
        self.w_l1 = number("guidance.w_l1", w_l1, least=0)
        self.w_ssim = number("guidance.w_ssim", w_ssim, least=0)
        self.pictures: dict[int, Tensor] = {}  # edited, [H, W, 3], by view
        self.hand: Editor | None = None  # the editor itself, once the prior is known

    def prepare(self, prior: DiffusionPrior) -> None:
        """Choose the editor; raises UserError when it and the prior don't fit together."""
        editor = self.editor
        if editor == "auto":
            editor = "instruct_pix2pix" if prior.takes_image else "sdedit"
        self.hand = EDITORS[editor]() if isinstance(editor, str) else editor
        if self.s is not None:
            self.hand.s = self.s
        self.hand.prepare(prior)
        self.hand.moves(self.moves, prior.schedule)
        if self.joint > 1 and not prior.has_self_attention:
            raise UserError(
                f"guidance.joint={self.joint} shares self-attention among views, and the {prior.name} prior has none; "
                "use guidance.joint=1"
            )

    def check_generation(self, prior: DiffusionPrior) -> None:
        """Raise UserError: there is nothing to edit."""
        raise UserError(f"guidance={self.name} edits what is there; to generate, use nfsd, sds or vsd")

    def check_views(self, views: Any) -> FixedViews:
        """The views, which must be a fixed set; raises UserError where they are not."""
        if not isinstance(views, FixedViews):
            raise UserError(
                f"guidance={self.name} keeps an edited picture of each view, and these are drawn anew in each step; "
                "set scene.views.count, such as scene.views.count=24"
            )
        if self.views is not None:
            count = min(self.views, len(views.cameras))  # spread out: cameras often stand in order
            return FixedViews(views.cameras[torch.arange(count) * len(views.cameras) // count])
        return views

    def due(self, step: int, indices: Sequence[int], count: int) -> list[int]:
        """The views to edit in a step that looks at views `indices` of `count`."""
        now = step % self.every == 0
        if self.when == "all":
            return list(range(count)) if now else []
        return [i for i in indices if now or (self.when == "first" and i not in self.pictures)]

    def level(self, step: int, generator: torch.Generator) -> float:
        """The strength of a step's editing."""
        if self.rounds:
            return self.rounds[min(step // self.every, len(self.rounds) - 1)]
        low, high = self.strength
        return low + (high - low) * float(torch.rand((), generator=generator))

    @torch.no_grad()
    def edit(
        self,
        canvas: SplatCanvas,
        due: Sequence[int],
        step: int,
        generator: torch.Generator,
    ) -> Edited:
        """Edit the pictures of the views `due`."""
        assert self.hand is not None
        evaluations, t = 0, 0
        strength = self.level(step, generator) if due else 0.0
        for first in range(0, len(due), self.joint):
            group = list(due[first : first + self.joint])
            indices = torch.tensor(group)
            task = canvas.task(canvas.fixed_cameras[indices], indices)
            with canvas.prior.joint_attention(len(group)):
                z, count = self.hand.edit(task, count=self.moves, generator=generator, strength=strength)
            for view, picture in zip(group, canvas.prior.decode(z).clamp(0, 1)):
                self.pictures[view] = picture
            evaluations += count * len(group)
            t = self.hand.moves(self.moves, canvas.prior.schedule, strength)[0].t
        return Edited(t, evaluations)

    def state_dict(self) -> dict[str, Any]:
        """The edited pictures."""
        return {"pictures": dict(self.pictures)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.pictures = {int(view): picture for view, picture in state["pictures"].items()}


def refit(
    canvas: SplatCanvas,
    *,
    method: Refit,
    num_steps: int,
    generator: torch.Generator,
    start: int = 0,
) -> Iterator[StepReport]:
    """Edit `canvas` in place and yield a report per step.

    A report's t is that of the first noise level of the pictures edited in the step, 0 where none was; its noise
    predictions are per view of the step, so that their sum is the run's.

    Raises:
        NonFiniteError: names the tensor and step; the canvas is as it was before that step.
    """
    for step in range(start, num_steps):
        watch = Stopwatch(canvas.prior.device)
        seen = canvas.look(generator, watch)
        assert seen.indices is not None  # `check_views` saw to it
        views = seen.indices.tolist()
        edited = method.edit(canvas, method.due(step, views, len(canvas.fixed_cameras)), step, generator)
        watch.lap("prior")
        wanted = torch.stack(
            [method.pictures[i] if i in method.pictures else canvas.source_picture(i) for i in views]
        ).to(seen.rgb)
        loss = photometric(seen.rgb, wanted, w_l1=method.w_l1, w_ssim=method.w_ssim)
        loss.backward()
        watch.lap("backward")
        sums = {f"the {method.name} loss": loss.detach()}
        done = take_step(canvas, loss.detach(), sums, step=step, num_steps=num_steps, t=edited.t)
        watch.lap("own")
        yield StepReport(
            step=step,
            t=edited.t,
            **done,
            evaluations=round(edited.evaluations / len(views)),
            seconds=watch.read(),
        )
