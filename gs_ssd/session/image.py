"""One edit of a picture, or a picture made from noise, as an object."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gs_ssd.checks import choice, number, whole
from gs_ssd.diffusion.fingerprint import fingerprint
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.diffusion.timesteps import Linear, TimestepSampler
from gs_ssd.edit.image import LATENT_RATE, ImageCanvas, LatentImage, PixelImage
from gs_ssd.edit.loop import StepReport, totals
from gs_ssd.edit.refit import Refit
from gs_ssd.editors.base import Editor
from gs_ssd.errors import UserError
from gs_ssd.files import sha256
from gs_ssd.guidance.base import Guidance, encode_prompts
from gs_ssd.guidance.nfsd import NFSD
from gs_ssd.guidance.ssd import SSD
from gs_ssd.results.folder import clear
from gs_ssd.results.image_files import load_image, save_image
from gs_ssd.results.image_report import write_image_report
from gs_ssd.results.manifest import environment, peak_memory_mb, write_json
from gs_ssd.results.video import to_uint8
from gs_ssd.session.calibration import calibrated
from gs_ssd.session.checkpoints import load_checkpoint
from gs_ssd.session.describe import describe, rebuild
from gs_ssd.session.edit import loaded, under
from gs_ssd.session.prompts import Prompts
from gs_ssd.session.run import Run, check_levels

PIXEL_RATE, NOISE_RATE = 0.01, 0.05  # Adam's, on a picture and on latents from noise
SPACES = ("latents", "pixels")


class ImageEdit(Run):
    """An edit of a picture, or the making of one where `image` is None.

        edit = ImageEdit("photo.png", Prompts("a photo of a man", "a photo of a clown"))
        for report in edit: ...
        edit.finish().save("out")

    Args:
        image: a PNG, JPEG or WebP file, or a tensor [1, H, W, 3] in [0, 1]; None: noise.
        prompts: `source` is None for a picture from noise.
        prior, guidance, timesteps: as for SceneEdit; from noise, the method is NFSD. An Editor walks the latents
            through `num_steps` moves of its own levels, without a rate.
        space: "latents" (gradient descent on z) or "pixels" (Adam on the picture, through the encoder).
        rate: step size; None: 0.0488 = 0.1·2000/64² (the DDS authors') for latents, 0.01 for pixels, 0.05 from noise.
        size: pixels of the shorter side; None keeps the picture's own, and takes the prior's for noise.
        init: standard deviation of the latents that a picture from noise starts with.
        depth: the picture's depth, near white, as a file or a tensor like `image`; where the prior has a ControlNet.
        num_steps, seed: how long, and of everything drawn.

    Raises UserError for settings that don't fit together, before anything is computed.
    """

    def __init__(
        self,
        image: str | os.PathLike | Tensor | None,
        prompts: Prompts,
        *,
        prior: DiffusionPrior | str | Callable[[], DiffusionPrior] = "auto",
        guidance: Guidance | Editor | None = None,
        timesteps: TimestepSampler | None = None,
        space: str = "latents",
        rate: float | None = None,
        size: int | None = None,
        init: float = 0.1,
        num_steps: int = 200,
        seed: int = 0,
        depth: str | os.PathLike | Tensor | None = None,
    ) -> None:
        self.settings: dict[str, Any] = {
            "space": choice("space", space, SPACES),
            "rate": rate if rate is None else number("rate", rate, above=0),
            "size": size if size is None else whole("size", size, least=8, most=16384),
            "init": number("init", init, above=0),
            "num_steps": whole("steps", num_steps, least=1),
            "seed": whole("seed", seed, least=0, most=2**64 - 1),
        }
        if not isinstance(image, Tensor | None):
            load_image(image)  # can it be read? Before a prior is loaded or downloaded
        self._check_family(guidance)
        check_levels(guidance, timesteps)
        prior = loaded(prior)
        making = image is None
        method = "nfsd" if making else "ssd"
        own = calibrated(
            prior=prior.family, canvas="noise" if making else "image", method=method, rule="linear"
        )
        if guidance is None:
            scale = {"s": own["s"]} if "s" in own else {}
            guidance = NFSD(**scale | under("guidance.", own)) if making else SSD(**under("guidance.", own))
        if not isinstance(guidance, Editor):
            timesteps = timesteps or Linear(**under("timesteps.", own))
        self.settings |= {"guidance": guidance, "timesteps": timesteps}
        guidance.prepare(prior)
        if making:
            guidance.check_generation(prior)
        prompts.check(prior)

        self.prompts, self.source = (
            prompts,
            None if isinstance(image, Tensor | None) else Path(image).expanduser(),
        )
        self.depth_source = None if isinstance(depth, Tensor | None) else Path(depth).expanduser()
        generator = torch.Generator().manual_seed(seed)
        rgb = self._rgb(image, prior, size)
        negative = prompts.negative if prompts.negative is not None else guidance.negative_prompt
        self.text = encode_prompts(
            prior, target=prompts.target, source=prompts.source or "", negative=negative
        )
        self._add_depth(depth, prior, rgb)
        canvas = self._from_noise(prior, rgb, generator) if making else self._from_picture(prior, rgb)
        self.start = self.image.picture()
        self.before = self.start if making else rgb
        super().__init__(
            canvas,
            prior=prior,
            guidance=guidance,
            timesteps=timesteps,
            num_steps=num_steps,
            generator=generator,
            seed=seed,
        )

    def _add_depth(
        self, depth: str | os.PathLike | Tensor | None, prior: DiffusionPrior, rgb: Tensor
    ) -> None:
        """Put the picture's depth into the conditions, for a prior with a ControlNet."""
        if not prior.takes_depth:
            if depth is not None:
                raise UserError(
                    f"depth= is read by a ControlNet, and {prior.name} has none; set diffusion.control=depth"
                )
            return
        if depth is None:
            raise UserError(
                f"{prior.name} has a ControlNet, which reads the picture's depth; give depth=<picture>, near is white"
            )
        if not isinstance(depth, Tensor):
            depth = load_image(depth, factor=prior.vae_scale_factor, size=min(rgb.shape[1:3]))
        if depth.shape != rgb.shape:
            (h, w), (height, width) = depth.shape[1:3], rgb.shape[1:3]
            raise UserError(f"the depth is {w}x{h} pixels, the picture {width}x{height}; make them one size")
        picture = depth.to(prior.device).permute(0, 3, 1, 2)
        self.text = {name: record.with_control(picture) for name, record in self.text.items()}

    def _check_family(self, guidance: object) -> None:
        """Raise UserError for a method of scenes, and for what a 2D editor would ignore."""
        if isinstance(guidance, Refit):
            raise UserError(
                f"guidance={guidance.name} refits a scene to its edited pictures; for one picture, use "
                "guidance=sdedit, ddim_inversion, flowedit or instruct_pix2pix"
            )
        if not isinstance(guidance, Editor):
            return
        guidance.moves(self.settings["num_steps"], NoiseSchedule.scaled_linear())
        if self.settings["rate"] is not None or self.settings["space"] != "latents":
            ignored = "rate" if self.settings["rate"] is not None else "space"
            raise UserError(
                f"{ignored}={self.settings[ignored]} is for methods that distil; guidance={guidance.name} walks the "
                "latents by its own levels: leave it out"
            )

    def _rgb(
        self, image: str | os.PathLike | Tensor | None, prior: DiffusionPrior, size: int | None
    ) -> Tensor:
        factor = prior.vae_scale_factor
        if image is None:
            side = size or prior.resolution
            if side % factor:
                near = max(round(side / factor), 1) * factor
                raise UserError(f"size={side} is not divisible by {factor}; try size={near}")
            rgb = torch.ones(1, side, side, 3)
        elif isinstance(image, Tensor):
            if image.dim() != 4 or image.shape[0] != 1 or image.shape[3] != 3:
                raise UserError(
                    f"the picture has shape {tuple(image.shape)}, expected [1, H, W, 3] in [0, 1]"
                )
            rgb = image
        else:
            rgb = load_image(image, factor=factor, size=size)
            side = min(rgb.shape[1:3])
            if not prior.resolution / 2 <= side <= prior.resolution * 2:
                warnings.warn(
                    f"the image's shorter side is {side} pixels, the {prior.name} prior knows images of "
                    f"{prior.resolution}; size={prior.resolution} resizes it",
                    stacklevel=3,
                )
        return rgb.to(prior.device)

    def _from_picture(self, prior: DiffusionPrior, rgb: Tensor) -> ImageCanvas:
        rate = self.settings["rate"]
        with torch.no_grad():
            z_src = prior.encode(rgb)
        if self.settings["space"] == "latents":
            self.image: LatentImage | PixelImage = LatentImage(prior, z_src)
            optimizer: torch.optim.Optimizer = torch.optim.SGD([self.image.parameter], lr=rate or LATENT_RATE)
        else:
            self.image = PixelImage(prior, rgb)
            optimizer = torch.optim.Adam([self.image.parameter], lr=rate or PIXEL_RATE)
        condition = prior.encode_condition(rgb) if prior.takes_image else None
        return ImageCanvas(self.image, optimizer=optimizer, text=self.text, z_src=z_src, condition=condition)

    def _from_noise(self, prior: DiffusionPrior, rgb: Tensor, generator: torch.Generator) -> ImageCanvas:
        with torch.no_grad():
            z = prior.encode(rgb)
        noise = self.settings["init"] * torch.randn(z.shape, generator=generator)
        self.image = LatentImage(prior, noise.to(z))
        optimizer = torch.optim.Adam([self.image.parameter], lr=self.settings["rate"] or NOISE_RATE)
        # At a constant rate the picture keeps the grain of its last few gradients.
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.settings["num_steps"])
        return ImageCanvas(self.image, optimizer=optimizer, text=self.text, scheduler=falling)

    @property
    def picture(self) -> Tensor:
        """The picture as it is now, [1, H, W, 3] in [0, 1]."""
        return self.image.picture()

    def finish(self) -> ImageResult:
        """What came of the steps done so far; the edit can go on afterwards."""
        return ImageResult(
            prompts=self.prompts,
            source=self.source,
            before=self.before,
            start=self.start,
            after=self.picture,
            reports=list(self.reports),
            num_steps=self.num_steps,
            prior=self.prior.about(),
        )

    def check_source(self, about: dict[str, Any], path: str | os.PathLike) -> None:
        for what, file in (("picture", self.source), ("depth", self.depth_source)):
            known = about.get("image" if what == "picture" else what) or _file(None)
            if file is not None and sha256(file) != known["digest"]:
                raise UserError(f"{path} is a checkpoint of another {what} than {file} ({known['source']})")

    def about(self) -> dict[str, Any]:
        return {
            "kind": "image",
            "settings": {name: describe(value) for name, value in self.settings.items()},
            "image": _file(self.source),
            "depth": _file(self.depth_source),
            "prompts": describe(self.prompts),
            "prior": {"name": self.prior.name, "digest": fingerprint(self.prior)},
            "threads": torch.get_num_threads(),
        }

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike,
        *,
        image: str | os.PathLike | Tensor | None = None,
        depth: str | os.PathLike | Tensor | None = None,
        prior: DiffusionPrior | str | None = None,
        guidance: Guidance | Editor | None = None,
    ) -> ImageEdit:
        """The edit whose checkpoint lies at `path`; `image`, `depth` and `prior`, where not the ones it names.

        Raises UserError for a checkpoint of another version, picture, depth or prior.
        """
        state, about = load_checkpoint(path, kind="image")
        image = image if image is not None else about["image"]["source"]
        depth = depth if depth is not None else (about.get("depth") or _file(None))["source"]
        settings = {name: rebuild(value) for name, value in about["settings"].items() if name != "guidance"}
        edit = cls(
            image,
            rebuild(about["prompts"]),
            prior=prior or about["prior"]["name"],
            guidance=guidance or rebuild(about["settings"]["guidance"]),
            depth=depth,
            **settings,
        )
        edit.check_and_load(state, about, path)
        return edit


def _file(path: Path | None) -> dict[str, str | None]:
    """What a checkpoint says of a file that it was made from."""
    return {
        "source": None if path is None else str(path.resolve()),
        "digest": None if path is None else sha256(path),
    }


@dataclass
class ImageResult:
    """Before and after, [1, H, W, 3] in [0, 1], with the reports of the steps done of `num_steps`.

    `start` is the source as the autoencoder gives it back, where the latents are edited.
    """

    prompts: Prompts
    source: Path | None
    before: Tensor
    start: Tensor
    after: Tensor
    reports: list[StepReport]
    num_steps: int
    prior: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Of the steps."""
        return sum(sum(report.seconds.values()) for report in self.reports)

    @property
    def change(self) -> float:
        """Mean absolute change of a channel."""
        return float((self.after - self.start).abs().mean())

    def save(
        self,
        folder: str | os.PathLike,
        *,
        command: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        pictures: Mapping[str, Callable[[Path], None]] | None = None,
    ) -> Path:
        """Write before.png and after.png (image.png where it was made from noise), report.html and run.json.

        Args:
            command, config: what was typed and what it meant, for run.json.
            pictures: further files by their names, each written by a function of its path.
        """
        folder = Path(folder).expanduser()
        made = self.prompts.source is None
        last = folder / ("image.png" if made else "after.png")
        clear(folder)
        if not made:
            save_image(self.before[0], folder / "before.png")
        save_image(self.after[0], last)
        for name, draw in (pictures or {}).items():
            draw(folder / name)
        manifest: dict[str, Any] = {
            "command": list(command),
            "config": config,
            "environment": environment() | {"device": str(self.after.device)},
            "prior": dict(self.prior),
            "prompts": asdict(self.prompts),
            "steps_done": len(self.reports),
            "seconds": self.seconds,
            "seconds_by_phase": totals(self.reports),
            "peak_memory_mb": peak_memory_mb(),
            "output": {"sha256": sha256(last)},
        }
        if not made:
            source = None if self.source is None else str(self.source)
            manifest |= {
                "input": {"path": source, "sha256": None if source is None else sha256(source)},
                "change": {"mean": self.change},
            }
        write_image_report(
            folder / "report.html",
            before=None if made else to_uint8(self.before[0]),
            after=to_uint8(self.after[0]),
            labels=(self.prompts.source, self.prompts.target),
            reports=self.reports,
            manifest=manifest,
        )
        write_json(manifest, folder / "run.json")
        return folder
