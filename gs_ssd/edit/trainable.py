"""Adam over the six tensors of a scene, with the learning rates of the field.

The parameters live in a dict of leaf tensors, next to sidecars that follow every split, clone and prune
by themselves because gsplat's densification operations treat the dict as a whole:

    generation  [M] int    0 for loaded Gaussians, n for those created by the n-th densification
    origin      [M] int    the loaded Gaussian that each one is, or descends from

They hold the M Gaussians that the edit may touch, so gradients, moments and anchors have M rows, too. Where those are
not all, the scene is the loaded one with these rows in their places: loaded Gaussians in their order, then new ones.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from gs_ssd.checks import number, vector
from gs_ssd.render.rasterization import Leaves
from gs_ssd.render.renderer import activated, selected
from gs_ssd.scene.gaussians import SH_C0, TENSORS, Gaussians, Rows

TRAINABLE = TENSORS


@dataclass(frozen=True)
class LearningRates:
    """Per-group rates of the official SSD runs; those of the means are multiplied by the scene's extent.

    The rate of the means decays log-linearly from `means` to `means_final` over the run; the others are constant.
    """

    means: float = 1.6e-4
    means_final: float = 1.6e-5
    scales: float = 0.005
    quats: float = 0.001
    opacities: float = 0.04
    sh0: float = 0.01
    shN: float = 5e-4

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            number(f"optimizer.rates.{name}", value, least=0)
        if self.means > 0:  # the rate decays along a logarithm
            number("optimizer.rates.means_final", self.means_final, above=0)


class TrainableScene:
    """The trainable scene: `params` (tensors and sidecars by name) and one Adam per tensor.

    Args:
        gaussians: the scene to start from; it is kept and never changed.
        editable: [N] bool, or None for all.
        rates: learning rates.
        extent: size of the scene in world units, 1.1 × the largest distance of a camera from the cameras' mean.
        betas: Adam's.
        clamp_colours: keep base colours displayable, or within the source's range where that is wider. Nothing in a
            score pulls a colour back that the picture can't show, so it would run off and leave bright spots.

    Attributes:
        rows: where the parameters stand in the scene; None: they are the scene.
    """

    def __init__(
        self,
        gaussians: Gaussians,
        *,
        editable: Tensor | None = None,
        rates: LearningRates | None = None,
        extent: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        clamp_colours: bool = True,
    ) -> None:
        for beta in vector("optimizer.betas", betas, 2):
            number("optimizer.betas", beta, least=0, below=1)
        device = gaussians.device
        self.rates, self.extent, self.loaded = rates or LearningRates(), extent, gaussians
        self.rows: Rows | None = None
        self.frozen = None if editable is None or bool(editable.all()) else ~editable.to(device)
        origin = torch.arange(len(gaussians), device=device)
        own = gaussians.tensors()
        if self.frozen is not None:
            origin = origin[~self.frozen]
            own = {name: value[origin] for name, value in own.items()}
        self.params: dict[str, Parameter] = {
            name: Parameter(value.detach().clone(), requires_grad=value.shape[1:].numel() > 0)
            for name, value in own.items()
        }
        self.params["generation"] = Parameter(torch.zeros_like(origin), requires_grad=False)
        self.params["origin"] = Parameter(origin, requires_grad=False)
        self.colour_range = colour_range(gaussians.sh0) if clamp_colours else None
        rates_by_name = asdict(self.rates) | {"means": self.rates.means * extent}
        self.optimizers = {
            # eps is 3DGS's: the gradients of single Gaussians are far below Adam's usual 1e-8.
            name: torch.optim.Adam(
                [self.params[name]], lr=rates_by_name[name], betas=(betas[0], betas[1]), eps=1e-15, fused=True
            )
            for name in TRAINABLE
            if self.params[name].requires_grad
        }
        self.arrange()

    def __len__(self) -> int:
        return len(self._whole["means"])

    @torch.no_grad()
    def append(self, new: Gaussians, origin: Tensor, *, generation: int) -> None:
        """Add Gaussians that descend from the loaded ones `origin` [n], before the first step."""
        assert not any(optimizer.state for optimizer in self.optimizers.values())
        added = new.tensors() | {"origin": origin, "generation": torch.full_like(origin, generation)}
        for name, value in added.items():
            old = self.params[name]
            self.params[name] = Parameter(torch.cat([old, value]), requires_grad=old.requires_grad)
        for name, optimizer in self.optimizers.items():
            optimizer.param_groups[0]["params"] = [self.params[name]]
        self.arrange()

    @torch.no_grad()
    def arrange(self) -> None:
        """Put the scene together; to be called when the parameters have other rows than before."""
        self._whole: dict[str, Any] = {name: self.params[name] for name in TRAINABLE}
        self.origin, self._extra = self.params["origin"].data, self.loaded.extra
        new = self.params["generation"] > 0
        if self.frozen is not None:
            kept = self.frozen.clone()  # of the loaded Gaussians
            kept[self.origin[~new]] = True
            before, self.rows = self.rows, Rows.of(torch.cat([~self.frozen[kept], new[new]]))
            self._whole = {
                name: torch.cat([value[kept], self.params[name][new]])
                for name, value in self.loaded.tensors().items()
            }
            self.origin = torch.cat([kept.nonzero()[:, 0], self.origin[new]])
            active = activated(Gaussians(**self._whole))
            if (
                before is not None
            ):  # what is frozen keeps its opacities, whose last bit depends on where they stand
                active[3][self.rows.index < 0] = self._active[3][before.index < 0]
            self._active: Leaves = active
            self._put_rows()
        if self._extra is not None and (new.any() or len(self) < len(self.loaded)):
            self._extra = self._extra[self.origin.to(self._extra.rows.device)]

    def _put_rows(self) -> None:
        """Bring the scene up to date with its parameters."""
        if self.rows is None:
            return
        data: dict[str, Any] = {name: self.params[name].data for name in TRAINABLE}
        own = Gaussians(**data)
        for name, value in own.tensors().items():
            self._whole[name].index_copy_(0, self.rows.places, value)
        # Of what is rendered, scales and opacities have storage of their own.
        for value, now in zip(self._active[2:4], activated(own)[2:4]):
            value.index_copy_(0, self.rows.places, now)

    @property
    def gaussians(self) -> Gaussians:
        """The scene as it is now, sharing storage with it (and gradients, where the parameters are all of it)."""
        return Gaussians(**self._whole, antialiased=self.loaded.antialiased, extra=self._extra)

    @property
    def leaves(self) -> dict[str, Any]:
        """What `render` takes beside `gaussians` so that gradients reach the parameters."""
        if self.rows is None:
            return {}
        own: dict[str, Any] = {name: self.params[name] for name in TRAINABLE}
        return {"leaves": Gaussians(**own), "rows": self.rows, "whole": self._active}

    def part(self, frozen: Tensor) -> dict[str, Any]:
        """`leaves` of what may change and of the frozen Gaussians with these sorted ranks alone (see `Rows`)."""
        assert self.rows is not None
        chosen, rows = Rows.beside(self.rows.places, frozen)
        return self.leaves | {"rows": rows, "whole": selected(self._active, chosen)}

    @property
    def frozen_alone(self) -> Leaves:
        """What `render` takes as `whole` so that nothing of what may change is seen."""
        assert self.rows is not None
        means, quats, scales, opacities, colours = self._active
        return means, quats, scales, opacities.index_fill(0, self.rows.places, 0.0), colours

    @property
    def editable(self) -> Tensor:
        """[N] bool: which of the scene's Gaussians may change."""
        if self.rows is None:
            return torch.ones(len(self), dtype=torch.bool, device=self.origin.device)
        return self.rows.index >= 0

    @property
    def new(self) -> Tensor:
        """[N] bool: which of the scene's Gaussians were not loaded."""
        own = self.params["generation"] > 0
        if self.rows is None:
            return own
        return torch.zeros_like(self.editable).index_copy_(0, self.rows.places, own)

    def set_progress(self, progress: float) -> None:
        """Decay the rate of the means: exp((1 − τ) ln a + τ ln b), τ = progress in [0, 1]."""
        start, end = self.rates.means * self.extent, self.rates.means_final * self.extent
        rate = math.exp((1 - progress) * math.log(start) + progress * math.log(end)) if start > 0 else 0.0
        self.optimizers["means"].param_groups[0]["lr"] = rate

    def clear_gradients(self) -> None:
        """Forget the gradients."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def gradients(self) -> list[Tensor]:
        """Those that the last backward pass left."""
        gradients = [self.params[name].grad for name in self.optimizers]
        return [gradient for gradient in gradients if gradient is not None]

    def gradient_sums(self) -> dict[str, Tensor]:
        """The sum of each tensor's gradient: not finite where the gradient isn't."""
        gradients = {name: self.params[name].grad for name in self.optimizers}
        return {name: gradient.sum() for name, gradient in gradients.items() if gradient is not None}

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters."""
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.clear_gradients()
        if self.colour_range is not None:
            self.params["sh0"].clamp_(*self.colour_range)
        self._put_rows()

    def state_dict(self) -> dict[str, Any]:
        """Parameters, sidecars and Adam's moments, as they are (not copied)."""
        moments = {
            name: {key: value for key, value in optimizer.state[self.params[name]].items()}
            for name, optimizer in self.optimizers.items()
        }
        return {"params": {name: value.detach() for name, value in self.params.items()}, "moments": moments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the values and shapes of `state`."""
        device = self.params["means"].device
        for name, value in state["params"].items():
            self.params[name] = Parameter(
                value.clone().to(device), requires_grad=self.params[name].requires_grad
            )
        for name, optimizer in self.optimizers.items():
            optimizer.param_groups[0]["params"] = [self.params[name]]
            moments = {key: value.clone() for key, value in state["moments"][name].items()}
            optimizer.state.clear()
            optimizer.state[self.params[name]] = {
                key: value if key == "step" else value.to(device) for key, value in moments.items()
            }
        self.arrange()


def colour_range(sh0: Tensor) -> tuple[float, float]:
    """The values of displayable base colours, or of `sh0` [N, 1, 3] where they reach further."""
    low, high = sh0.aminmax()
    return min(low.item(), -0.5 / SH_C0), max(high.item(), 0.5 / SH_C0)
