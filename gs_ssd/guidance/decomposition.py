"""What a noise prediction consists of, made visible (NFSD's decomposition).

e^s(z,y) = δ_N + δ_D + s δ_C
δ_C = e(z,y) − e(z,∅)        the prompt
δ_D = e(z,∅) − δ_N           the domain: what makes a noisy image look like a natural one
δ_N = e(z,n), or 0 for t < T/5, where n is a negative prompt
δ_R = δ_N − ε                the residual noise that SDS adds: e^s(z,y) − ε = δ_D + δ_R + s δ_C, NFSD leaves it out
"""

from __future__ import annotations

import torch
from torch import Tensor

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.guidance.base import TARGET_NEG, TARGET_NULL, TARGET_Y, Step, predict_branches


@torch.no_grad()
def decompose(prior: DiffusionPrior, step: Step) -> dict[str, Tensor]:
    """The components {"delta_C", "delta_D", "delta_N", "delta_R"} of the prediction at the target's z, each like z."""
    eps = predict_branches(prior, [TARGET_Y, TARGET_NULL, TARGET_NEG], step)
    delta_n = torch.zeros_like(step.z) if step.t < len(step.schedule) // 5 else eps[TARGET_NEG]
    return {
        "delta_C": eps[TARGET_Y] - eps[TARGET_NULL],
        "delta_D": eps[TARGET_NULL] - delta_n,
        "delta_N": delta_n,
        "delta_R": delta_n - step.noise,
    }


@torch.no_grad()
def picture_of(prior: DiffusionPrior, z: Tensor, component: Tensor, *, strength: float = 0.5) -> Tensor:
    """How removing a component from z changes the image: grey is no change, [1, H, W, 3].

    The component is scaled to the root mean square `strength`, the change to the full range.
    """
    rms = component.pow(2).mean().sqrt()
    if rms == 0:
        return torch.full_like(prior.decode(z), 0.5)
    change = prior.decode(z - component * (strength / rms)) - prior.decode(z)
    return 0.5 + 0.5 * change / change.abs().max().clamp_min(1e-6)
