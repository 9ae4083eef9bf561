"""A scene and all that an edit must know of it: its Gaussians, the object's place, what may change, who looks at it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gs_ssd import samples
from gs_ssd.assets import DATA
from gs_ssd.checks import vector
from gs_ssd.errors import UserError
from gs_ssd.files import sha256
from gs_ssd.scene.blob import blob
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.datasets import load_cameras, visible_cameras
from gs_ssd.scene.formats import load_gaussians
from gs_ssd.scene.frame import SceneFrame, find_frame
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.masks import Everything, MaskContext, Parts
from gs_ssd.scene.views import turntable

Mask = Callable[[Gaussians, MaskContext], Tensor]
WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Scene:
    """What is edited. An edit never changes it.

    Attributes:
        gaussians: the N Gaussians.
        frame: where the object is and which way is up.
        editable: [N] bool, the Gaussians that an edit may touch.
        name: what results are called.
        background: RGB in [0, 1] behind the Gaussians.
        cameras: the user's, which see the object; None: views are drawn around it.
        views: how training views are drawn, as `training_views` takes it.
        view_words: what "front", "side" and "back" add to the target prompt; None: the views are not told apart.
        parts: file of part labels (`gs_ssd.scene.parts`), for the metrics.
        source: the file it came from, and `digest`, its SHA-256; None for a scene from nowhere.
    """

    gaussians: Gaussians
    frame: SceneFrame
    editable: Tensor
    name: str = "scene"
    background: tuple[float, ...] = WHITE
    cameras: Cameras | None = None
    views: Mapping[str, Any] = field(default_factory=dict)
    view_words: Mapping[str, str] | None = None
    parts: Path | None = None
    source: Path | None = None
    digest: str | None = None

    def __len__(self) -> int:
        return len(self.gaussians)

    @property
    def front_azimuth_degrees(self) -> float:
        return float(self.views.get("front_azimuth_degrees", 0.0))

    def settings(self) -> dict[str, Any]:
        """What is known of the scene besides its file, as plain data: with it, `load` sees it as it is seen here."""
        return {
            "name": self.name,
            "up": self.frame.up.tolist(),
            "center": self.frame.center.tolist(),
            "radius": self.frame.radius,
            "background": list(self.background),
            "views": dict(self.views),
            "view_words": self.view_words if self.view_words is None else dict(self.view_words),
            "cameras": None if self.cameras is None else len(self.cameras),
        }

    def select(self, mask: Mask, **looking: Any) -> Scene:
        """The same scene with another selection.

        Args:
            looking: what the mask may ask beside frame, cameras and views, as `MaskContext` takes it: a `renderer`,
                a `prior`, the prompts `source` and `target`.
        """
        context = MaskContext(frame=self.frame, cameras=self.cameras, views=self.views, **looking)
        return replace(self, editable=mask(self.gaussians, context))

    def turn(self, count: int, *, size: int = 256, elevation_degrees: float = 10.0) -> Cameras:
        """`count` cameras of `size` pixels, evenly around the object from its front."""
        low, high = self.views.get("fov_degrees", (40.0, 50.0))
        return turntable(
            self.frame,
            count,
            size=size,
            elevation_degrees=elevation_degrees,
            front_azimuth_degrees=self.front_azimuth_degrees,
            fov_degrees=(low + high) / 2,
        )

    @classmethod
    def of(
        cls,
        gaussians: Gaussians,
        *,
        up: str | Sequence[float] = "auto",
        center: Sequence[float] | None = None,
        radius: float | None = None,
        background: Sequence[float] = WHITE,
        cameras: Cameras | None = None,
        mask: Mask | None = None,
        views: Mapping[str, Any] | None = None,
        **known: Any,
    ) -> Scene:
        """A scene of Gaussians in memory.

        Args:
            up: "auto", an axis such as "-y", or a direction [3].
            center, radius: of the object, world units; None: found from the Gaussians.
            mask: what may change, see `gs_ssd.scene.masks`; None: everything. One that looks at the scene needs a
                renderer: load the scene without it, then `select`.
            known: further attributes by name.
        """
        frame = find_frame(gaussians, up=up, center=center, radius=radius, cameras=cameras)
        looking = MaskContext(frame=frame, cameras=cameras, views=dict(views or {}))
        return cls(
            gaussians=gaussians,
            frame=frame,
            editable=(mask or Everything())(gaussians, looking),
            background=vector("scene.background", background, 3, least=0, most=1),
            cameras=cameras,
            views=dict(views or {}),
            **known,
        )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        *,
        name: str | None = None,
        background: Sequence[float] = WHITE,
        cameras: str | os.PathLike | None = None,
        parts: str | os.PathLike | None = None,
        **settings: Any,
    ) -> Scene:
        """Read a splat in any known format.

        Args:
            cameras: a COLMAP folder, transforms.json or cameras.json.
            settings: as `of` takes them.

        Raises UserError for a file that can't be read and for settings that don't fit it.
        """
        vector("scene.background", background, 3, least=0, most=1)  # before a large file is read
        path = Path(path).expanduser()
        gaussians = load_gaussians(path)
        return cls.of(
            gaussians,
            name=name or path.name.split(".")[0],
            background=background,
            cameras=None
            if cameras is None
            else visible_cameras(load_cameras(cameras), gaussians, source=cameras),
            parts=None if parts is None else Path(parts),
            source=path,
            digest=sha256(path),
            **settings,
        )

    @classmethod
    def sample(cls, name: str = "face", *, mask: Mask | None = None) -> Scene:
        """One of the scenes that ship with the project: "face", "elder" or "woman"; head and neck may change."""
        if name not in samples.SUBJECTS:
            raise UserError(f"no sample scene is called {name!r}; there are: {', '.join(samples.SUBJECTS)}")
        parts = DATA / "scenes" / f"{name}_parts.npy"
        return cls.load(
            DATA / "scenes" / f"{name}.ply",
            background=samples.BACKGROUND,
            mask=mask or Parts(str(parts), samples.EDITABLE),
            views=samples.VIEWS,
            parts=parts,
            **samples.FRAME,
        )

    @classmethod
    def ball(cls, *, generator: torch.Generator, **start: Any) -> Scene:
        """A faint ball of random Gaussians to make something from; `start` as `gs_ssd.scene.blob` takes it."""
        return cls.of(
            blob(generator=generator, **{"center": samples.FRAME["center"]} | start),
            name="blob",
            background=samples.BACKGROUND,
            views=samples.VIEWS | {"count": None},
            view_words=samples.VIEW_WORDS,
            **samples.FRAME,
        )
