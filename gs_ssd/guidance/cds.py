"""Contrastive Denoising Score (Nam et al., CVPR 2024): keep the source's structure, on top of another score.

    G = G_score + κ w_cut ∂L_CUT/∂z,   κ = 64²/2000

L_CUT compares the outputs of the self-attentions in the up blocks, r for (ẑ_t, ŷ), without gradient, and q for
(z_t, y): it sums, over the layers and over patches of 1 and 2 cells a side, the mean over n sampled positions of

    ℓ_i = −log [e^{r_i·q_i/τ} / (e^{r_i·q_i/τ} + Σ_{j≠i} e^{r_i·q_j/τ} + e^{−10/τ})]

with r and q of unit length over the channels. The published code scales the score by 2000/64² and leaves L_CUT
alone; κ says the same in the units of G. It takes the source's patches as queries, unlike CUT; so do we.
The gradient of L_CUT passes through the UNet, which costs two more evaluations and the memory of one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gs_ssd.devices import upload
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.errors import UserError
from gs_ssd.guidance.base import Branch, Guidance, Step

SCORE_SCALE = 2000 / 64**2
OTHERS = -10.0  # the similarity that stands in for a patch's own among the negatives


def info_nce(reference: Tensor, target: Tensor, *, tau: float = 0.07) -> Tensor:
    """The mean of ℓ_i over n positions, for each image: [B, C, n], [B, C, n] → [B]."""
    r, q = F.normalize(reference, dim=1), F.normalize(target, dim=1)
    similarity = torch.einsum("bci,bcj->bij", r, q)
    positive = similarity.diagonal(dim1=1, dim2=2).unsqueeze(2)
    own = torch.eye(similarity.shape[1], dtype=torch.bool, device=similarity.device)
    negatives = similarity.masked_fill(own, OTHERS)
    logits = torch.cat([positive, negatives], dim=2) / tau
    return -F.log_softmax(logits, dim=2)[..., 0].mean(dim=1)


def cut_loss(
    reference: Sequence[Tensor],
    target: Sequence[Tensor],
    *,
    patches: int = 256,
    patch_sizes: Sequence[int] = (1, 2),
    tau: float = 0.07,
    generator: torch.Generator | None = None,
) -> Tensor:
    """L_CUT [B] of feature maps [B, C, h, w]; `generator` draws the positions, at most `patches` per map."""
    loss = target[0].new_zeros(len(target[0]))
    for r_map, q_map in zip(reference, target, strict=True):
        for size in patch_sizes:
            if min(q_map.shape[-2:]) < size:
                continue
            r, q = (F.avg_pool2d(x, size).flatten(2) for x in (r_map.detach(), q_map))
            drawn = torch.randperm(q.shape[-1], generator=generator)[:patches]
            positions = upload(drawn, q.device)
            loss = loss + info_nce(r[..., positions], q[..., positions], tau=tau)
    return loss


class CDS(Guidance):
    """A score (DDS as published, or SSD) with the CUT loss beside it.

    Args:
        score: the guidance that edits.
        w_cut: weight of L_CUT.
        tau: temperature τ.
        patches: positions drawn per feature map, n at most.
        patch_sizes: sides of the patches, in cells of the feature map.

    Raises UserError when the prior has no self-attention in its up blocks.
    """

    name = "cds"

    def __init__(
        self,
        score: Guidance,
        *,
        w_cut: float = 3.0,
        tau: float = 0.07,
        patches: int = 256,
        patch_sizes: Sequence[int] = (1, 2),
    ) -> None:
        if not isinstance(score, Guidance):
            raise ValueError(f"score={score} must be the settings of a guidance, with a _target_")
        if not isinstance(patch_sizes, Sequence) or not all(isinstance(size, int) for size in patch_sizes):
            raise ValueError(f"patch_sizes={patch_sizes} must be a list of whole numbers, such as [1,2]")
        if not patch_sizes or min(patch_sizes) < 1 or patches < 1 or not tau > 0:
            raise ValueError(
                f"patches={patches} and each of patch_sizes={list(patch_sizes)} must be at least 1, tau={tau} above 0"
            )
        self.score, self.w_cut = score, w_cut
        self.tau, self.patches, self.patch_sizes = tau, patches, tuple(patch_sizes)
        self.takes_image, self.negative_prompt = score.takes_image, score.negative_prompt

    def prepare(self, prior: DiffusionPrior) -> None:
        self.score.prepare(prior)
        if not prior.has_self_attention:
            raise UserError(
                f"the {prior.name} prior has no self-attention in its up blocks, which guidance=cds compares; "
                "use a prior with attention (diffusion=sd21) or guidance=ssd"
            )

    def coefficients(self, t: int, schedule: NoiseSchedule) -> dict[Branch, float]:
        return self.score.coefficients(t, schedule)

    def evaluations(self, t: int, schedule: NoiseSchedule) -> int:
        return self.score.evaluations(t, schedule) + 2

    def needs_source(self, t: int, schedule: NoiseSchedule) -> bool:
        return True

    def state_dict(self) -> dict[str, Tensor]:
        return self.score.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.score.load_state_dict(state)

    def __call__(self, prior: DiffusionPrior, step: Step) -> Tensor:
        return self.score(prior, step) + self.w_cut / SCORE_SCALE * self.cut_gradient(prior, step)

    def cut_gradient(self, prior: DiffusionPrior, step: Step) -> Tensor:
        """∂L_CUT/∂z [B, C, h, w], each image for itself."""

        def features(z_t: Tensor, prompt: str) -> list[Tensor]:
            text = step.text_of(prompt)
            return prior.attention_features(z_t, step.t, text, step.image, freeu=self.score.freeu)

        with torch.no_grad():
            reference = features(step.z_src_t, "source")
        with torch.enable_grad():
            z = step.z.detach().requires_grad_()
            target = features(step.schedule.add_noise(z, step.noise, step.t), "target")
            loss = cut_loss(
                reference,
                target,
                patches=self.patches,
                patch_sizes=self.patch_sizes,
                tau=self.tau,
                generator=step.generator,
            )
            return torch.autograd.grad(loss.sum(), z)[0]
