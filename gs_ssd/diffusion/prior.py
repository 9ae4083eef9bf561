"""What an edit asks of a diffusion model.

Priors speak epsilon and clean latents z that are already multiplied by the autoencoder's scaling factor.
Images are [B, H, W, 3] in [0, 1]; they become channel-first only inside a prior.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from gs_ssd.diffusion.schedule import NoiseSchedule


class DiffusionPrior(ABC):
    """A frozen text-conditioned noise predictor with its autoencoder.

    Attributes:
        name: how reports call it.
        schedule: its noise schedule.
        resolution: the image side in pixels it was trained at.
        factor: pixels per latent cell; image sides must be multiples of it.
        takes_image: whether `predict` needs an image condition (InstructPix2Pix).
        has_self_attention: whether `attention_features` finds any.
    """

    name: str
    schedule: NoiseSchedule
    resolution: int
    factor: int
    takes_image: bool = False
    has_self_attention: bool = False

    @abstractmethod
    def encode(self, rgb: Tensor) -> Tensor:
        """Clean latents z [B, C, H/factor, W/factor] of images [B, H, W, 3]; differentiable."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Images [B, H, W, 3] in [0, 1] of clean latents z; no gradient."""

    @abstractmethod
    def embed(self, prompts: list[str]) -> Tensor:
        """Text conditions [len(prompts), L, D]."""

    @abstractmethod
    def predict(self, z_t: Tensor, t: int, text: Tensor, image: Tensor | None = None) -> Tensor:
        """ε-prediction [B, C, h, w] for noisy latents at timestep t under text [B, L, D].

        `image` [B, C, h, w] is the image condition where `takes_image`, with zeros for "no image".
        """

    def use_freeu(self, on: bool) -> None:  # noqa: B027 most priors have none
        """Whether predictions from now on use FreeU; a prior that has none, or is told to do without, ignores it."""

    def encode_condition(self, rgb: Tensor) -> Tensor:
        """The image condition for `predict`, [B, C, h, w]; only where `takes_image`."""
        raise ValueError(f"{self.name} takes no image condition")

    def attention_features(
        self, z_t: Tensor, t: int, text: Tensor, image: Tensor | None = None
    ) -> list[Tensor]:
        """Outputs of the self-attentions in the network's up blocks, each [B, C, h, w], with their graph to z_t."""
        raise ValueError(f"{self.name} has no self-attention in its up blocks")

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of the prompt that the prior has never seen; empty for open-vocabulary models."""
        return []

    def nearest_words(self, word: str) -> list[str]:
        """Known words spelled like `word`."""
        return []
