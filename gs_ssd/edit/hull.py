"""Room for another outline: before the first step the prior is asked, from around, where the target's runs.

A score paints what is there within a few steps, but hardly moves it, and surfaces that have to travel grow fur. So
faint Gaussians are put where the outline is to grow, and those that are to go are made faint. What the steps then do
not raise is left out of the result.

Seen from one of K views, s is the picture of the source, b that of what may not change, and

    a = s + D(ẑ − (σ_t/α_t) [e(ẑ,y) − e(ẑ,ŷ)]) − D(ẑ)        what the change of the prompt makes of s; D decodes

With |·| the largest difference of a channel, a pixel that what may change covers (by a half) is

    gone    where |a − b| < 0.4 |s − b|, |a − s| > 0.5 |s − b| and |s − b| > 0.35, linked with an empty pixel by such

and one that it does not is

    empty   where |a − b| < max(0.12, contrast · the largest |a − b| nearby),        full    otherwise

A place is filled as in space carving (Kutulakos and Seitz, 2000): of the views that see it before the source and
before what may not change, two or more and a sixth of all see it full, and at most the share `misses` of those that see
it full or empty see it empty. Where what may not change lies behind, nearer than half the diagonal of what may
change, a view sees nothing full: there it may be other clothes that are asked for, on a far shoulder. A Gaussian
goes where three views see it gone, but none does where 45 % of what may change would go: then the target has the
backdrop's colour, as marble before a grey wall.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import binary_propagation
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import max_pool2d

from gs_ssd.checks import number, whole
from gs_ssd.edit.splats import SplatCanvas
from gs_ssd.edit.trainable import TrainableScene
from gs_ssd.ranks import ALONE, Ranks
from gs_ssd.render import Render
from gs_ssd.render.coverage import coverage
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.gaussians import SH_C0

LEAST_CHANGE = 0.12  # of a channel; below it a prior's answers differ by chance
LEAST_CONTRAST = 0.35  # of source and backdrop, where a pixel is to go
MOST_GONE = 0.45  # of what may change; where more would go, none does
FULL_SHARE = 1 / 6  # of the views, which see a filled place full
FULL_VIEWS, GONE_VIEWS = 2, 3
SIZE = 0.6  # standard deviation of new Gaussians, as a share of their spacing
HIDDEN = -30.0  # logit of an opacity that no pixel shows
MOST_CELLS = 2**22  # of the lattice; a larger one is made coarser


class Hull:
    """Where the outline may grow and shrink.

    Args:
        views: K; 0 leaves all this out.
        ratio: noise level t/T at which the prior is asked.
        contrast: share of the change nearby from which on a pixel is full.
        misses: share of the views that may see a filled place empty.
        spacing: of filled places, as a share of the extent.
        reach: how far from what may change they lie at most, as a share of the extent.
        opacity: of new Gaussians, and of those that are to go.
        least: Gaussians that end below this opacity are left out of the result, if they are new or were above it.
    """

    def __init__(
        self,
        *,
        views: int = 0,
        ratio: float = 0.2,
        contrast: float = 0.5,
        misses: float = 0.2,
        spacing: float = 0.0075,
        reach: float = 0.055,
        opacity: float = 0.05,
        least: float = 0.1,
    ) -> None:
        self.views = whole("hull.views", views, least=0, most=1000)
        self.ratio = number("hull.ratio", ratio, above=0, below=1)
        self.contrast = number("hull.contrast", contrast, least=0, most=1)
        self.misses = number("hull.misses", misses, least=0, most=1)
        self.spacing = number("hull.spacing", spacing, above=0, most=1)
        self.reach = number("hull.reach", reach, above=0, most=1)
        self.opacity = number("hull.opacity", opacity, above=0, below=1)
        self.least = number("hull.least", least, least=0, below=1)

    def predictions(self, canvas: SplatCanvas) -> int:
        """How many noise predictions `shape` makes; a fixed set of cameras may have fewer than `views`."""
        return 2 * len(canvas.some_views(self.views)) if self.views else 0

    @torch.no_grad()
    def shape(self, canvas: SplatCanvas, ranks: Ranks = ALONE) -> tuple[int, int]:
        """Fill and fade the canvas's scene, which nothing has changed yet; returns (new, faded) Gaussians.

        Each of the `ranks` asks for its part of the views; all of them get the same scene. A scene that was filled
        before stays as it is.
        """
        scene, extent = canvas.scene, canvas.scene.extent
        if self.views == 0 or scene.new.any():
            return 0, 0
        own = canvas.source.gaussians[scene.editable]
        others = canvas.source.gaussians.means[~scene.editable]
        places, nearest, size = lattice(own.means, others, self.spacing * extent, self.reach * extent)
        cameras = canvas.some_views(self.views)
        full, empty, gone, colour = self.count(canvas, cameras, places, own.means, size, ranks)
        chosen = self.filled(full, empty, len(cameras))
        fading = gone >= GONE_VIEWS
        if fading.float().mean() > MOST_GONE:
            fading = torch.zeros_like(fading)
        if not (chosen.any() or fading.any()):
            return 0, 0
        logit = math.log(self.opacity / (1 - self.opacity))
        opacities = scene.params["opacities"]
        opacities[fading] = opacities[fading].clamp(max=logit)
        parents = own[nearest[chosen]]
        new = replace(
            parents,
            means=places[chosen],
            scales=torch.full_like(parents.scales, math.log(SIZE * size)),
            quats=torch.zeros_like(parents.quats),
            opacities=torch.full_like(parents.opacities, logit),
            sh0=((colour[chosen] / full[chosen, None] - 0.5) / SH_C0)[:, None].to(parents.sh0),
            shN=torch.zeros_like(parents.shN),
            extra=None,
        )
        new.quats[:, 0] = 1
        canvas.append(new, scene.params["origin"][nearest[chosen]])
        return len(new), int(fading.sum())

    def count(
        self, canvas: SplatCanvas, cameras: Cameras, places: Tensor, means: Tensor, size: float, ranks: Ranks
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """How many cameras see the places [P, 3] full and empty [P] and the means [M, 3] gone [M], and the sums [P, 3]
        of what the full ones are to look like."""
        # In double precision, exact in whatever order the ranks are added up.
        colour = torch.zeros_like(places, dtype=torch.float64)
        full, empty = torch.zeros_like(colour[:, 0]), torch.zeros_like(colour[:, 0])
        gone = torch.zeros_like(means[:, 0], dtype=torch.float64)
        radius = (means.amax(dim=0) - means.amin(dim=0)).norm() / 2
        for view in range(ranks.rank, len(cameras), ranks.size):
            camera = cameras[view].to(places.device)
            answer = self.ask(canvas, camera, seed=view)
            x, y, depth, seen = project(places, camera)
            behind = answer.backdrop_depth[y, x]
            front = seen & (depth < torch.minimum(answer.depth[y, x] - size / 2, behind))
            wanted = front & answer.full[y, x] & (depth < behind - radius)
            full += wanted
            empty += front & answer.empty[y, x]
            colour += wanted[:, None] * answer.asked[y, x]
            x, y, depth, seen = project(means, camera)
            gone += seen & (depth < answer.backdrop_depth[y, x]) & answer.gone[y, x]
        ranks.add_up([full, empty, gone, colour])
        return full, empty, gone, colour

    def filled(self, full: Tensor, empty: Tensor, views: int) -> Tensor:
        """Which places [P] are filled that so many of the `views` see full and empty [P]."""
        return (full >= max(FULL_VIEWS, FULL_SHARE * views)) & (empty <= self.misses * (full + empty))

    def ask(self, canvas: SplatCanvas, camera: Cameras, *, seed: int) -> Answer:
        """What the prior asks for in one view; its noise is drawn from `seed`."""
        prior, source, own = canvas.prior, canvas.source.gaussians, canvas.scene.editable
        task = canvas.task(camera, None)
        t = max(round(self.ratio * len(prior.schedule)), 1)
        alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
        z_t = alpha * task.z_src + sigma * task.draw(torch.Generator().manual_seed(seed))
        target, said = task.predict(t, [(z_t, "target", True), (z_t, "source", True)])
        change = prior.decode(task.z_src - sigma / alpha * (target - said)) - prior.decode(task.z_src)

        rest = replace(source, opacities=source.opacities.masked_fill(own, HIDDEN))
        seen = canvas.renderer(source, camera, render_mode="RGB+ED")
        behind = canvas.renderer(rest, camera, render_mode="RGB+ED")
        asked = (seen.rgb + change.to(seen.rgb)).clamp(0, 1)[0]
        covered = coverage(source, own, camera)[0] > 0.5
        return Answer(
            asked,
            surface(seen),
            surface(behind),
            *self.parts(seen.rgb[0], asked, behind.rgb[0], covered, prior.vae_scale_factor),
        )

    def parts(
        self, source: Tensor, asked: Tensor, backdrop: Tensor, covered: Tensor, factor: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Which pixels [H, W] are empty, full and gone, of pictures [H, W, 3] and what may change's pixels [H, W].

        Near are those within three quarters of a cell of the latents, which has `factor` pixels a side, and at least 2.
        """
        far, was = distance(asked, backdrop), distance(source, backdrop)
        near = max(3 * factor // 4, 2)
        most = max_pool2d(far[None, None], 2 * near + 1, 1, near)[0, 0]
        empty = ~covered & (far < (self.contrast * most).clamp(min=LEAST_CHANGE))
        gone = covered & (was > LEAST_CONTRAST) & (far < 0.4 * was) & (distance(asked, source) > 0.5 * was)
        linked = binary_propagation(empty.cpu().numpy(), mask=(gone | empty).cpu().numpy())
        return empty, ~covered & ~empty, gone & torch.from_numpy(linked).to(gone.device)

    def kept(self, scene: TrainableScene) -> Tensor:
        """[N] bool: which of the scene's Gaussians belong to the result."""
        limit = math.log(max(self.least, 1e-9) / (1 - self.least))
        faint = scene.gaussians.opacities < limit
        kept = ~(faint & scene.editable & (scene.new | (scene.loaded.opacities[scene.origin] >= limit)))
        return kept if kept.any() else torch.ones_like(kept)


@dataclass(frozen=True)
class Answer:
    """What the prior asks for in one view.

    Attributes:
        asked: the picture [H, W, 3].
        depth, backdrop_depth: [H, W] of the source, and of what may not change; infinite where there is nothing.
        empty, full, gone: [H, W] bool, see the module.
    """

    asked: Tensor
    depth: Tensor
    backdrop_depth: Tensor
    empty: Tensor
    full: Tensor
    gone: Tensor


def lattice(means: Tensor, others: Tensor, spacing: float, reach: float) -> tuple[Tensor, Tensor, float]:
    """Places [P, 3] around means [N, 3], the mean nearest to each, and their spacing.

    They are at most `reach` from the means and at least half the spacing; what lies on `others` [F, 3], within two
    spacings and nearer to them, is theirs. Shifted by chance within their cells, since rows of them would be seen as
    rows. The spacing grows where the box of the means would take more than MOST_CELLS.
    """
    points = means.detach().cpu().double()
    low, high = points.amin(dim=0) - reach, points.amax(dim=0) + reach
    spacing = max(spacing, (float((high - low).prod()) / MOST_CELLS) ** (1 / 3))
    axes = [torch.arange(a, b, spacing, dtype=torch.float64) for a, b in zip(low.tolist(), high.tolist())]
    grid = torch.cartesian_prod(*axes)
    grid += 0.6 * spacing * (torch.rand(grid.shape, generator=torch.Generator().manual_seed(0)) - 0.5)
    distances, nearest = cKDTree(points.numpy()).query(grid.numpy(), distance_upper_bound=reach)
    near = (distances <= reach) & (distances > spacing / 2)
    grid, distances, nearest = grid[torch.from_numpy(near)], distances[near], nearest[near]
    if len(others):
        tree = cKDTree(others.detach().cpu().numpy())
        free = tree.query(grid.numpy(), distance_upper_bound=2 * spacing)[0] >= np.minimum(
            distances, 2 * spacing
        )
        grid, nearest = grid[torch.from_numpy(free)], nearest[free]
    return grid.to(means), torch.from_numpy(nearest).to(means.device), spacing


def surface(seen: Render) -> Tensor:
    """The depth [H, W] of a view; infinite where it shows nothing."""
    assert seen.depth is not None
    return torch.where(seen.alpha > 0.5, seen.depth, math.inf)[0, ..., 0]


def project(points: Tensor, camera: Cameras) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels x, y [N] of points [N, 3], their depths, and whether one camera sees them; x and y lie in the picture."""
    view, K = camera.viewmats[0].to(points), camera.Ks[0].to(points)
    local = points @ view[:3, :3].T + view[:3, 3]
    depth = local[:, 2]
    x, y, _ = (local @ K.T / depth[:, None].clamp(min=1e-9)).floor().clamp(-1, 1e6).long().unbind(dim=1)
    seen = (depth > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    return x.clamp(0, camera.width - 1), y.clamp(0, camera.height - 1), depth, seen


def distance(first: Tensor, second: Tensor) -> Tensor:
    """[H, W]: the largest difference of a channel of two pictures [H, W, 3]."""
    return (first - second).abs().amax(dim=-1)
