"""Anchor losses of hierarchical Gaussian splatting (Chen et al., GaussianEditor, CVPR 2024), as SSD uses them.

    L_P = mean over editable Gaussians and dimensions of W[g_i] (P_i − P̂_i)²,     L = Σ_P λ_P L_P

for the attributes P: geometry (means and quaternions), colour (sh0 and shN), opacity (logit) and scale (log).
The anchors P̂ are the values at the last densification, so old structure is held and new structure is free:
Gaussians of generation g have the weight W[g], and each densification appends a fresh generation of weight 0.
"""

from __future__ import annotations

from typing import Any

import torch

from gs_ssd.checks import number
from gs_ssd.edit.trainable import TrainableScene

MAX_WEIGHT = 10.0


class Anchors:
    """Pulls the editable Gaussians towards where they were at the last densification.

    Args:
        geometry, colour, opacity, scale: λ_P of each attribute.
        first: weight of the loaded generation.
        initial: weight a generation gets at the densification after its birth.
        multiplier: growth of every weight per densification, up to 10.
    """

    def __init__(
        self,
        *,
        geometry: float = 5.0,
        colour: float = 0.0,
        opacity: float = 5.0,
        scale: float = 5.0,
        first: float = 0.05,
        initial: float = 0.1,
        multiplier: float = 1.3,
    ) -> None:
        for name, value in {
            "geometry": geometry,
            "colour": colour,
            "opacity": opacity,
            "scale": scale,
        }.items():
            number(f"anchors.{name}", value, least=0)
        for name, value in {"first": first, "initial": initial, "multiplier": multiplier}.items():
            number(f"anchors.{name}", value, least=0)
        self.geometry, self.colour, self.opacity, self.scale = geometry, colour, opacity, scale
        self.strengths = {
            "means": geometry,
            "quats": geometry,
            "sh0": colour,
            "shN": colour,
            "opacities": opacity,
            "scales": scale,
        }
        self.first, self.initial, self.multiplier = first, initial, multiplier
        self.weights = [first]
        self.values: dict[str, torch.Tensor] = {}

    def record(self, scene: TrainableScene) -> None:
        """Take the current values as anchors."""
        self.values = {
            name: scene.params[name].detach().clone()
            for name, strength in self.strengths.items()
            if strength > 0 and scene.params[name].numel()
        }
        generation = scene.params["generation"]
        weights = torch.tensor(self.weights, dtype=scene.params["means"].dtype, device=generation.device)
        self.per_gaussian = weights[generation]
        self.count = max(len(generation), 1)

    def advance(self) -> None:
        """Age the generations by one densification."""
        self.weights = [min(self.multiplier * weight, MAX_WEIGHT) for weight in self.weights]
        if len(self.weights) > 1:
            self.weights[-1] = self.initial
        self.weights.append(0.0)

    @torch.no_grad()
    def add_gradients(self, scene: TrainableScene) -> torch.Tensor:
        """Add ∂L/∂P = 2 λ_P W (P − P̂)/(N dim) to the gradients; returns L, a scalar.

        In closed form, because autograd over every parameter would cost more than the rasterizer on a small view.
        """
        loss = scene.params["means"].new_zeros(())
        for name, anchor in self.values.items():
            parameter = scene.params[name]
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            factor = self.strengths[name] / (self.count * max(parameter.shape[1:].numel(), 1))
            difference = parameter - anchor
            pull = difference * self.per_gaussian.reshape(-1, *[1] * (parameter.dim() - 1))
            loss += factor * torch.dot(pull.flatten(), difference.flatten())
            parameter.grad.add_(pull, alpha=2 * factor)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The generations' weights and the recorded anchors."""
        return {
            "weights": list(self.weights),
            "values": self.values,
            "per_gaussian": self.per_gaussian,
            "count": self.count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        device = self.per_gaussian.device
        self.weights = list(state["weights"])
        self.values = {name: value.to(device) for name, value in state["values"].items()}
        self.per_gaussian = state["per_gaussian"].to(device)
        self.count = state["count"]
