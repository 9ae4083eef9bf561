"""One edit of a scene, as an object: made, run, looked at, stopped, resumed, finished."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gs_ssd import __version__
from gs_ssd.assets import DATA
from gs_ssd.checks import switch, whole
from gs_ssd.diffusion.fingerprint import fingerprint
from gs_ssd.diffusion.load import load_prior
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.timesteps import Linear, TimestepSampler
from gs_ssd.edit.anchors import Anchors
from gs_ssd.edit.densify import Densifier
from gs_ssd.edit.hull import Hull
from gs_ssd.edit.loop import StepReport
from gs_ssd.edit.noise import ConsistentNoise
from gs_ssd.edit.refit import Refit
from gs_ssd.edit.splats import SplatCanvas, Texts
from gs_ssd.edit.trainable import LearningRates, TrainableScene
from gs_ssd.edit.view_prompts import ViewPrompts
from gs_ssd.editors.base import Editor
from gs_ssd.errors import UserError
from gs_ssd.guidance.base import Guidance, encode_prompts
from gs_ssd.guidance.ssd import SSD
from gs_ssd.ranks import ALONE, Ranks
from gs_ssd.render import render
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.scene import Scene
from gs_ssd.scene.views import camera_extent, training_views
from gs_ssd.session.calibration import calibrated
from gs_ssd.session.checkpoints import load_checkpoint
from gs_ssd.session.describe import describe, rebuild
from gs_ssd.session.prompts import Prompts
from gs_ssd.session.result import EditResult, Measures
from gs_ssd.session.run import Run, check_levels, short

OWN: Any = object()  # stands for "the default" where None means "without"


class SceneEdit(Run):
    """An edit of a scene, or the making of one where `prompts.source` is None.

        edit = SceneEdit(Scene.sample("face"), Prompts("a photo of a man", "a photo of a clown"), num_steps=300)
        for report in edit:
            print(report.step, report.loss)
        edit.finish().save("out")

    What is left out takes the published value, or the one that suits the prior (`gs_ssd.session.calibration`).

    Args:
        scene: where the edit starts from; it is never changed.
        prompts: what the scene shows and what it should show.
        prior: a DiffusionPrior, a function that makes one, or what `load_prior` takes.
        guidance: the method; None: SSD. A Refit edits pictures of the scene and fits it to them.
        timesteps: the rule; None: linear, from coarse to fine. Refused beside a Refit, which has levels of its own.
        noise: shares noise among the views; None: every view has its own.
        rates: learning rates.
        anchors, densifier: None leaves them out.
        hull: makes room for another outline; None leaves it out.
        betas: Adam's.
        clamp_colours: keep base colours displayable.
        num_steps, views_per_step: how long, and views per step; None: 1,500, or what suits the prior.
        resolution: of the training views in pixels; None: the prior's own.
        seed: of everything drawn.
        generator: draws instead of one seeded with `seed`, where a caller has drawn from it before.
        ranks: the processes that share the views of every step (`gs_ssd.ranks.joined`).
        device: where the scene is rendered and edited; None: where the prior is.

    Raises UserError for settings that don't fit together, before anything is computed.
    """

    def __init__(
        self,
        scene: Scene,
        prompts: Prompts,
        *,
        prior: DiffusionPrior | str | Callable[[], DiffusionPrior] = "auto",
        guidance: Guidance | Refit | None = None,
        timesteps: TimestepSampler | None = None,
        noise: ConsistentNoise | None = None,
        rates: LearningRates | None = None,
        anchors: Anchors | None = OWN,
        densifier: Densifier | None = OWN,
        hull: Hull | None = OWN,
        betas: tuple[float, float] = (0.9, 0.999),
        clamp_colours: bool = True,
        num_steps: int | None = None,
        views_per_step: int = 1,
        resolution: int | None = None,
        seed: int = 0,
        generator: torch.Generator | None = None,
        ranks: Ranks = ALONE,
        device: torch.device | str | None = None,
    ) -> None:
        started = time.perf_counter()
        switch("optimizer.clamp_colours", clamp_colours)
        if num_steps is not None:
            whole("steps", num_steps, least=1)
        seed = whole("seed", seed, least=0, most=2**64 - 1)
        if isinstance(guidance, Editor):
            raise UserError(
                f"guidance={guidance.name} edits a picture; for a scene, use guidance=in2n "
                f"guidance.editor={guidance.name}"
            )
        check_levels(guidance, timesteps)
        self.settings: dict[str, Any] = {
            "betas": tuple(betas),
            "clamp_colours": clamp_colours,
            "views_per_step": whole("views_per_step", views_per_step, least=1),
            "seed": seed,
        }
        ranks.check_views(views_per_step)
        if ranks.size > 1 and (isinstance(guidance, Refit) or noise is not None):
            what = "noise=" if noise is not None else f"guidance={guidance.name}"  # type: ignore[union-attr]
            raise UserError(f"{what} is not shared out among ranks; start it without torchrun")
        prior = loaded(prior)
        self.scene, self.prompts = scene, prompts
        own = self._calibration(prior, "ssd" if guidance is None else guidance.name)
        num_steps = num_steps or own.get("steps", 1500)
        guidance = guidance or SSD(**under("guidance.", own))
        if not isinstance(guidance, Refit):
            timesteps = timesteps or Linear(**under("timesteps.", own))
        self.settings |= {
            "guidance": guidance,
            "timesteps": timesteps,
            "noise": noise,
            "rates": rates or LearningRates(**under("optimizer.rates.", own)),
            **self._growth(own, num_steps, anchors, densifier, hull),
            "num_steps": num_steps,
            "resolution": fitting_resolution(resolution, prior),
        }
        guidance.prepare(prior)
        if prompts.source is None:
            guidance.check_generation(prior)
        prompts.check(prior)
        generator = generator or torch.Generator().manual_seed(seed)
        super().__init__(
            self._canvas(prior, generator, ranks, torch.device(device or prior.device)),
            prior=prior,
            guidance=guidance,
            timesteps=timesteps,
            num_steps=num_steps,
            generator=generator,
            seed=seed,
            ranks=ranks,
        )
        self.set_up_seconds = time.perf_counter() - started

    def _growth(
        self,
        own: dict[str, Any],
        num_steps: int,
        anchors: Anchors | None,
        densifier: Densifier | None,
        hull: Hull | None,
    ) -> dict[str, Any]:
        """What holds, adds and removes Gaussians, with the calibration's `own` in the place of OWN."""
        if anchors is OWN:
            anchors = None if own.get("anchors", OWN) is None else Anchors()
        if densifier is OWN:
            densifier = Densifier(**{"stop": num_steps} | under("densify.", own))
        if hull is OWN:
            hull = Hull(**under("hull.", own))
        if hull is not None and hull.views and self.prompts.source is None:
            raise UserError(
                f"hull.views={hull.views} asks about a source, and there is none; set hull.views=0"
            )
        return {"anchors": anchors, "densifier": densifier, "hull": hull}

    def _calibration(self, prior: DiffusionPrior, method: str) -> dict[str, Any]:
        canvas = "blob" if self.prompts.source is None else "scene"
        return calibrated(prior=prior.family, canvas=canvas, method=method, rule="linear")

    def _loop(self) -> Iterator[StepReport]:
        hull: Hull | None = self.settings["hull"]
        if hull is not None and self.step == 0:
            assert isinstance(self.canvas, SplatCanvas)
            hull.shape(self.canvas, self.ranks)
        return super()._loop()

    def _canvas(
        self, prior: DiffusionPrior, generator: torch.Generator, ranks: Ranks, device: torch.device
    ) -> SplatCanvas:
        scene, settings = self.scene, self.settings
        views = training_views(
            scene.frame,
            size=settings["resolution"],
            generator=generator,
            cameras=scene.cameras,
            **scene.views,
        )
        guidance = settings["guidance"]
        extent = camera_extent(views, scene.frame, cameras=scene.cameras)
        if isinstance(guidance, Refit):
            views = guidance.check_views(views)
        self.before, self.editable = scene.gaussians.to(device), scene.editable.to(device)
        self.renderer = partial(
            render,
            background=torch.tensor(list(scene.background), device=device),
            rasterize_mode="antialiased" if scene.gaussians.antialiased else "classic",
        )
        self.trainable = TrainableScene(
            self.before,
            editable=self.editable,
            rates=settings["rates"],
            extent=extent,
            betas=settings["betas"],
            clamp_colours=settings["clamp_colours"],
        )
        return SplatCanvas(
            self.trainable,
            source=self.before,
            views=views,
            renderer=self.renderer,
            prior=prior,
            texts=self._texts(prior, guidance),
            anchors=settings["anchors"],
            densifier=settings["densifier"],
            views_per_step=settings["views_per_step"],
            noise=settings["noise"],
            ranks=ranks,
        )

    def _texts(self, prior: DiffusionPrior, guidance: Guidance | Refit) -> Texts | ViewPrompts:
        said = {
            "target": self.prompts.target,
            "source": self.prompts.source or "",
            "negative": guidance.negative_prompt if self.prompts.negative is None else self.prompts.negative,
        }
        if self.scene.view_words is None:
            return encode_prompts(prior, **said)
        return ViewPrompts(
            prior,
            **said,
            words=self.scene.view_words,
            frame=self.scene.frame,
            front_azimuth_degrees=self.scene.front_azimuth_degrees,
        )

    @property
    def device(self) -> torch.device:
        """Where the scene is."""
        return self.before.device

    @property
    def gaussians(self) -> Gaussians:
        """A detached copy of the scene as it is now."""
        return self.trainable.gaussians.clone()

    def finish(self, measures: Measures | None = None) -> EditResult:
        """What came of the steps done so far, measured; the edit can go on afterwards.

        Args:
            measures: how results are measured; None: as the prior's calibration says.
        """
        if measures is None:
            measures = Measures(
                **{"seed": self.seed} | under("metrics.", self._calibration(self.prior, self.guidance.name))
            )
        hull: Hull | None = self.settings["hull"]
        kept = slice(None) if hull is None or not hull.views else hull.kept(self.trainable)
        assert isinstance(self.canvas, SplatCanvas)
        asked = hull.predictions(self.canvas) if hull is not None and self.step else 0
        return EditResult(
            scene=self.scene,
            prompts=self.prompts,
            before=self.before,
            after=self.gaussians[kept],
            editable=self.editable,
            editable_after=self.trainable.editable[kept],
            origin=self.trainable.origin[kept].clone(),
            reports=list(self.reports),
            num_steps=self.num_steps,
            renderer=self.renderer,
            measures=measures,
            set_up_seconds=self.set_up_seconds,
            asked=round(asked / self.settings["views_per_step"]),
            prior=self.prior.about(),
        )

    def about(self) -> dict[str, Any]:
        return {
            "kind": "scene",
            "settings": {name: describe(value) for name, value in self.settings.items()},
            "scene": {
                "name": self.scene.name,
                "source": None if self.scene.source is None else str(self.scene.source.resolve()),
                "digest": self.scene.digest,
                "gaussians": len(self.scene),
            },
            "prompts": describe(self.prompts),
            "prior": {"name": self.prior.name, "digest": fingerprint(self.prior)},
            "threads": torch.get_num_threads(),
        }

    def check_ranks(self) -> None:
        """Raise UserError unless all ranks edit the same thing by the same prior, from the same step on."""
        if self.ranks.size == 1:
            return
        about = self.about()
        same = {name: about[name] for name in ("settings", "prompts", "prior")}
        same |= {"version": __version__, "step": self.step, "scene": about["scene"]["digest"]}
        same |= {"gaussians": len(self.scene), "editable": self.editable.sum().item()}
        self.ranks.check_same("an edit", json.dumps(same, sort_keys=True, default=str))

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike,
        *,
        scene: Scene | None = None,
        prior: DiffusionPrior | str | None = None,
        guidance: Guidance | Refit | None = None,
        ranks: Ranks = ALONE,
    ) -> SceneEdit:
        """The edit whose checkpoint lies in the file or run folder `path`, at the step where it was written.

        Args:
            scene: the scene it started from; None: a sample scene, or the file that the checkpoint names.
            prior: the prior; None: the one that the checkpoint names.
            guidance: the method, where it is not one of this package's; made with the same settings.
            ranks: as many as divide the views, whoever wrote it.

        Raises UserError, in one line that names both, for a checkpoint of another version, scene or prior.
        """
        state, about = load_checkpoint(path, kind="scene")
        if scene is None:
            scene = find_scene(about["scene"])
        prior = prior or about["prior"]["name"]
        settings = {name: value for name, value in about["settings"].items() if name != "guidance"}
        edit = cls(
            scene,
            rebuild(about["prompts"]),
            prior=prior,
            guidance=guidance or rebuild(about["settings"]["guidance"]),
            ranks=ranks,
            **{name: rebuild(value) for name, value in settings.items()},
        )
        edit.check_and_load(state, about, path)
        return edit

    def check_source(self, about: dict[str, Any], path: str | os.PathLike) -> None:
        known = about["scene"]
        if known["digest"] != self.scene.digest or known["gaussians"] != len(self.scene):
            raise UserError(
                f"{path} is a checkpoint of {known['source'] or known['name']} (SHA-256 {short(known['digest'])}), "
                f"the scene is {self.scene.source or self.scene.name} ({short(self.scene.digest)}); give that one"
            )


def loaded(prior: DiffusionPrior | str | Callable[[], DiffusionPrior]) -> DiffusionPrior:
    """A prior from what names it, makes it or is it."""
    if isinstance(prior, str):
        return load_prior(prior)
    return prior if isinstance(prior, DiffusionPrior) else prior()


def find_scene(known: dict[str, Any]) -> Scene:
    """The scene that a checkpoint names, from its file; raises UserError where that needs the caller."""
    name, source = known["name"], known["source"]
    if source is not None and Path(source).parent == DATA / "scenes":
        return Scene.sample(name)
    raise UserError(
        f"the checkpoint's scene is {source or name}; load it as it was loaded then, and give it as scene="
    )


def fitting_resolution(resolution: int | None, prior: DiffusionPrior) -> int:
    """The side of training views in pixels; raises UserError where the prior's latents don't fit it."""
    size = prior.resolution if resolution is None else resolution
    factor = prior.vae_scale_factor
    if not isinstance(size, int) or isinstance(size, bool) or size < factor or size % factor or size > 16384:
        near = max(round(float(size) / factor), 1) * factor if isinstance(size, int) else prior.resolution
        raise UserError(f"resolution={size} is not divisible by {factor}; try resolution={min(near, 1024)}")
    return size


def under(prefix: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings below a dotted prefix, by their own names."""
    return {
        name.removeprefix(prefix): value
        for name, value in settings.items()
        if name.startswith(prefix) and "." not in name.removeprefix(prefix)
    }
