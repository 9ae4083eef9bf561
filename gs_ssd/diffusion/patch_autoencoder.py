"""A fixed linear autoencoder of image patches.

Notation: x is a patch of f x f RGB pixels in [-1, 1], flattened to D = 3 f^2 numbers; mu its mean over a data set;
B [D, K] the K leading principal directions, B^T B = 1; s [K] a scale per channel.

    encode:  z = s * (B^T (x - mu))        decode:  x = B (z / s) + mu

With B orthonormal the encoder's adjoint is B diag(s): a gradient on z returns to the pixels without distortion, at
the cost of one small matrix product, and decode(encode(x)) is the orthogonal projection of x on the K directions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor


@dataclass
class PatchLatents:
    """A point distribution with the interface of diffusers' latent distributions; `mean` is [B, K, H/f, W/f]."""

    mean: Tensor

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """The mean: the encoder is deterministic."""
        return self.mean


@dataclass
class PatchEncoding:
    latent_dist: PatchLatents


@dataclass
class PatchDecoding:
    sample: Tensor


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Orthonormal PCA of image patches, partly whitened; the interface of diffusers' `AutoencoderKL`.

    Args:
        patch_size: f, the edge of a patch in pixels; images need H and W divisible by it.
        latent_channels: K.
        scaling_factor: what a pipeline multiplies latents with; 1, since s already sets their scale.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, patch_size: int = 8, latent_channels: int = 16, scaling_factor: float = 1.0) -> None:
        super().__init__()
        dim = 3 * patch_size**2
        self.basis = torch.nn.Parameter(torch.eye(dim, latent_channels), requires_grad=False)
        self.mean = torch.nn.Parameter(torch.zeros(dim), requires_grad=False)
        self.scale = torch.nn.Parameter(torch.ones(latent_channels), requires_grad=False)

    @torch.no_grad()
    def fit(self, images: Tensor, whitening: float = 0.5, spread: float = 1.0) -> "PatchAutoencoder":
        """Set B, mu and s from images [N, 3, H, W] in [-1, 1].

        A channel of standard deviation sd is divided by sd^whitening (0 keeps pixel proportions, 1 makes all channels
        alike), and all by one constant so that the latents' root mean square deviation is `spread`: the smaller, the
        more a diffusion model's noise hides at a given timestep.
        """
        x = self._patches(images).movedim(1, -1).flatten(0, -2).double()
        mean = x.mean(0)
        covariance = (x - mean).T @ (x - mean) / len(x)
        variance, directions = torch.linalg.eigh(covariance)
        k = self.config.latent_channels
        sd = variance.flip(0)[:k].clamp_min(1e-12).sqrt()
        scale = sd**-whitening
        self.basis.copy_(directions.flip(1)[:, :k])
        self.mean.copy_(mean)
        self.scale.copy_(spread * scale / (scale * sd).square().mean().sqrt())
        return self

    def _patches(self, images: Tensor) -> Tensor:
        f = self.config.patch_size
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % f or images.shape[3] % f:
            raise ValueError(
                f"expected images [B, 3, H, W] with H and W divisible by {f}, got {tuple(images.shape)}"
            )
        return F.pixel_unshuffle(images, f)  # [B, D, H/f, W/f]

    def encode(self, x: Tensor) -> PatchEncoding:
        """Images [B, 3, H, W] in [-1, 1] -> latents [B, K, H/f, W/f] in `.latent_dist`."""
        centred = self._patches(x) - self.mean[:, None, None]
        z = torch.einsum("bdhw,dk->bkhw", centred, self.basis * self.scale)
        return PatchEncoding(PatchLatents(z))

    def decode(self, z: Tensor) -> PatchDecoding:
        """Latents [B, K, h, w] -> images [B, 3, f h, f w] in `.sample`, not clamped."""
        patches = torch.einsum("bkhw,dk->bdhw", z, self.basis / self.scale) + self.mean[:, None, None]
        return PatchDecoding(F.pixel_shuffle(patches, self.config.patch_size))

    def forward(self, sample: Tensor) -> PatchDecoding:
        """Project images on the K directions."""
        return self.decode(self.encode(sample).latent_dist.mean)
