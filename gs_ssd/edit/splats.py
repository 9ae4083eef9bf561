"""A scene as a canvas: views of it are rendered and encoded, the pull ends in its Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.edit.anchors import Anchors
from gs_ssd.edit.densify import Densifier
from gs_ssd.edit.depth import depth_picture
from gs_ssd.edit.frozen import FrozenViews
from gs_ssd.edit.loop import Observation, Stopwatch
from gs_ssd.edit.noise import ConsistentNoise
from gs_ssd.edit.trainable import TrainableScene
from gs_ssd.editors.base import Task
from gs_ssd.ranks import ALONE, Ranks
from gs_ssd.render import Render
from gs_ssd.render.renderer import activated, selected
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.gaussians import Gaussians, Rows
from gs_ssd.scene.views import FixedViews

Texts = dict[str, Any]


class Views(Protocol):
    """Where training cameras come from."""

    def sample(self, count: int, generator: torch.Generator) -> tuple[Cameras, Tensor | None]:
        """`count` cameras, and their indices [count] when they come from a fixed set."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class SourceView(NamedTuple):
    """ẑ and the image condition [B, C, h, w] and the picture of depths [B, 1, H, W], where the prior takes them."""

    latents: Tensor
    image: Tensor | None = None
    depth: Tensor | None = None


class SourceViews:
    """What the unedited scene shows; cached by view index for a fixed view set.

    `places` [M] is where what may change stands in it; None: that is all.
    """

    def __init__(
        self,
        gaussians: Gaussians,
        renderer: Callable[..., Render],
        prior: DiffusionPrior,
        places: Tensor | None = None,
    ) -> None:
        self.gaussians, self.renderer, self.prior, self.places = gaussians, renderer, prior, places
        self.cache: dict[int, SourceView] = {}

    @torch.no_grad()
    def __call__(self, cameras: Cameras, indices: Tensor | None, frozen: Tensor | None = None) -> SourceView:
        """Of the Gaussians that may not change those with the ranks `frozen` are enough to draw; None: draw all."""
        if indices is None:
            return self._encode(cameras, frozen)
        keys = indices.tolist()
        for position, key in enumerate(keys):
            if key not in self.cache:
                self.cache[key] = self._encode(cameras[position], frozen)
        seen = [self.cache[key] for key in keys]
        images = [view.image for view in seen if view.image is not None]
        depths = [view.depth for view in seen if view.depth is not None]
        return SourceView(
            torch.cat([view.latents for view in seen]),
            torch.cat(images) if images else None,
            torch.cat(depths) if depths else None,
        )

    def _encode(self, cameras: Cameras, frozen: Tensor | None) -> SourceView:
        options: dict[str, Any] = {"render_mode": "RGB+ED"} if self.prior.takes_depth else {}
        if frozen is not None and self.places is not None:
            chosen, _ = Rows.beside(self.places, frozen)
            options["whole"] = selected(activated(self.gaussians), chosen)
        out = self.renderer(self.gaussians, cameras.to(self.gaussians.device), **options)
        condition = self.prior.encode_condition(out.rgb) if self.prior.takes_image else None
        depth = depth_picture(out).to(self.prior.device) if self.prior.takes_depth else None
        return SourceView(self.prior.encode(out.rgb), condition, depth)


@dataclass(frozen=True)
class Look:
    """The views of a step.

    Attributes:
        cameras: of the B views.
        indices: theirs [B] in a fixed set.
        frozen: ranks of the frozen Gaussians that they show, where those were drawn alone.
        rgb: [B, H, W, 3] with its graph.
    """

    cameras: Cameras
    indices: Tensor | None
    frozen: Tensor | None
    rgb: Tensor


class SplatCanvas:
    """The Canvas of a scene.

    Args:
        scene: what is edited, in place.
        source: the unedited scene, which every step is compared with.
        views: where the training cameras come from.
        renderer: (gaussians, cameras) → Render.
        prior: encodes the renders.
        texts: the text conditions, or those of given cameras.
        anchors, densifier: None leaves them out.
        views_per_step: B, of all ranks together.
        noise: shares noise among views; None: every view has its own.
        ranks: the processes that share the views.
    """

    def __init__(
        self,
        scene: TrainableScene,
        *,
        source: Gaussians,
        views: Views,
        renderer: Callable[..., Render],
        prior: DiffusionPrior,
        texts: Texts | Callable[[Cameras], Texts],
        anchors: Anchors | None = None,
        densifier: Densifier | None = None,
        views_per_step: int = 1,
        noise: ConsistentNoise | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        ranks.check_views(views_per_step)
        self.scene, self.views, self.renderer, self.prior = scene, views, renderer, prior
        places = None if scene.frozen is None else (~scene.frozen).nonzero()[:, 0]
        self.source, self.frozen = SourceViews(source, renderer, prior, places), FrozenViews(scene, renderer)
        self.texts, self.anchors, self.densifier = texts, anchors, densifier
        self.views_per_step, self.noise, self.ranks = views_per_step, noise, ranks
        self.info: dict[str, Any] = {}  # of the step's render, and the rows of what may change in it
        self.rows: Rows | None = None
        if anchors is not None:
            anchors.record(scene)

    def look(self, generator: torch.Generator, watch: Stopwatch) -> Look:
        """Render the step's views, with their graph."""
        self.scene.clear_gradients()  # a step that broke left some
        cameras, indices = self.views.sample(self.views_per_step, generator)
        own = self.ranks.part(self.views_per_step)
        cameras, indices = cameras[own], None if indices is None else indices[own]
        placed = cameras.to(self.scene.origin.device)
        watch.lap("own")
        frozen = self.frozen(placed, indices)
        leaves = self.scene.leaves if frozen is None else self.scene.part(frozen)
        out = self.renderer(self.scene.gaussians, placed, **leaves)
        if self.densifier is not None:
            out.info["means2d"].retain_grad()
            self.info, self.rows = out.info, leaves.get("rows")
        watch.lap("render")
        return Look(cameras, indices, frozen, out.rgb)

    def observe(self, generator: torch.Generator, watch: Stopwatch) -> Observation:
        seen = self.look(generator, watch)
        source = self.source(seen.cameras, seen.indices, seen.frozen)
        watch.lap("render")
        z = self.prior.encode(seen.rgb)
        watch.lap("encode")
        return Observation(
            z,
            source.latents,
            self._said(seen.cameras, source),
            source.image,
            self._noise(seen.cameras, z.shape),
        )

    def append(self, new: Gaussians, origin: Tensor) -> None:
        """Add a generation that descends from the loaded Gaussians `origin` [n], before the first step."""
        self.scene.append(new, origin, generation=1)
        if self.densifier is not None:
            self.densifier.count = 1
        if self.anchors is not None:
            self.anchors.advance()
            self.anchors.record(self.scene)

    @torch.no_grad()
    def task(self, cameras: Cameras, indices: Tensor | None) -> Task:
        """What a 2D editor is given to edit some views as they are now; `indices` [B] are theirs in a fixed set."""
        source = self.source(cameras, indices)
        z = self.prior.encode(self.renderer(self.scene.gaussians, cameras).rgb)
        seen = Observation(
            z, source.latents, self._said(cameras, source), source.image, self._noise(cameras, z.shape)
        )
        return Task(prior=self.prior, z_src=seen.z_src, z=z, text=seen.text, image=seen.image, draw=seen.draw)

    @torch.no_grad()
    def source_picture(self, index: int) -> Tensor:
        """The unedited scene [H, W, 3] from one view of a fixed set."""
        return self.renderer(self.source.gaussians, self.fixed_cameras[index]).rgb[0]

    def some_views(self, count: int) -> Cameras:
        """About `count` training cameras: of a fixed set at even distances, else always the same."""
        if isinstance(self.views, FixedViews):
            every = max(len(self.views.cameras) // max(count, 1), 1)
            return self.views.cameras[::every][:count]
        return self.views.sample(count, torch.Generator().manual_seed(0))[0]

    @property
    def fixed_cameras(self) -> Cameras:
        """All training cameras, where they are a fixed set."""
        assert isinstance(self.views, FixedViews)
        return self.views.cameras

    def _said(self, cameras: Cameras, source: SourceView) -> Texts:
        """The conditions of the views, with what the source's depth is there, where the prior takes it."""
        text = self.texts(cameras) if callable(self.texts) else self.texts
        if source.depth is None:
            return text
        picture = source.depth.expand(-1, 3, -1, -1)
        return {name: record.with_control(picture) for name, record in text.items()}

    def _noise(self, cameras: Cameras, shape: torch.Size) -> Callable[[torch.Generator], Tensor] | None:
        if self.noise is None:
            return None
        return partial(self.noise, self.scene.gaussians, cameras, self.renderer, shape)

    def settle(self) -> dict[str, Tensor]:
        sums = {}
        self.ranks.average(self.scene.gradients())
        if self.anchors is not None:
            sums["the anchor loss"] = self.anchors.add_gradients(self.scene)
        return sums | {f"the gradient of {name}": value for name, value in self.scene.gradient_sums().items()}

    def move(self, step: int, num_steps: int) -> int:
        self.scene.set_progress(step / num_steps)
        self.scene.step()
        if self.densifier is not None:
            self.densifier.observe(self.info, self.rows, self.ranks)
            self.info, self.rows = {}, None  # they can have the size of the scene
            if self.densifier.due(step):
                self.densifier.densify(self.scene)
                if self.anchors is not None:
                    self.anchors.advance()
                    self.anchors.record(self.scene)
        return len(self.scene)

    def state_dict(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "scene": self.scene,
            "views": self.views,
            "anchors": self.anchors,
            "densifier": self.densifier,
            "noise": self.noise,
        }
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scene.load_state_dict(state["scene"])
        self.views.load_state_dict(state["views"])
        if self.anchors is not None:
            self.anchors.load_state_dict(state["anchors"])
        if self.densifier is not None:
            self.densifier.load_state_dict(state["densifier"])
        if self.noise is not None:
            self.noise.load_state_dict(state["noise"])
