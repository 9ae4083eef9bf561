"""What an edit asks of a diffusion model.

Priors speak epsilon and clean latents z that are already multiplied by the autoencoder's scaling factor.
Images are [B, H, W, 3] in [0, 1]; they become channel-first only inside a prior.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.diffusion.text import TextCondition


class DiffusionPrior(ABC):
    """A frozen text-conditioned noise predictor with its autoencoder.

    Attributes:
        name: how reports call it.
        family: what it is a kind of, for settings that suit the kind: embedded, sd, ip2p, tiny ...
        device: where its networks are.
        schedule: its noise schedule.
        resolution: the image side in pixels it was trained at.
        vae_scale_factor: pixels per latent cell; image sides must be multiples of it.
        takes_image: whether `predict_noise` needs an image condition (InstructPix2Pix).
        takes_depth: whether it has a ControlNet that reads a picture of depths from `TextCondition.control`.
        revision: the commit of the hub that it was loaded from, where it came from there.
        has_self_attention: whether `attention_features` finds any.
        has_null: whether it was trained on the empty prompt; not so where guidance is distilled into the network.
    """

    name: str
    family: str = ""
    device: torch.device = torch.device("cpu")
    schedule: NoiseSchedule
    resolution: int
    vae_scale_factor: int
    takes_image: bool = False
    takes_depth: bool = False
    revision: str | None = None
    has_self_attention: bool = False
    has_null: bool = True

    @abstractmethod
    def encode(self, rgb: Tensor) -> Tensor:
        """Clean latents z [B, C, H/f, W/f] of images [B, H, W, 3], f the scale factor; differentiable."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Images [B, H, W, 3] in [0, 1] of clean latents z; no gradient."""

    @abstractmethod
    def encode_prompt(self, prompts: list[str]) -> TextCondition:
        """The text conditions of `prompts`, as one record."""

    @abstractmethod
    def predict_noise(
        self, z_t: Tensor, t: int, text: TextCondition, image: Tensor | None = None, *, freeu: bool = False
    ) -> Tensor:
        """ε-prediction [B, C, h, w] for noisy latents at timestep t under a text condition of as many prompts.

        Args:
            image: the image condition [B, C, h, w] where `takes_image`, with zeros for "no image".
            freeu: predict with FreeU; a prior that has none, or is told to do without, ignores it.
        """

    def encode_condition(self, rgb: Tensor) -> Tensor:
        """The image condition for `predict_noise`, [B, C, h, w]; only where `takes_image`."""
        raise ValueError(f"{self.name} takes no image condition")

    def attention_features(
        self, z_t: Tensor, t: int, text: TextCondition, image: Tensor | None = None, *, freeu: bool = False
    ) -> list[Tensor]:
        """Outputs of the self-attentions in the network's up blocks, each [B, C, h, w], with their graph to z_t."""
        raise ValueError(f"{self.name} has no self-attention in its up blocks")

    def joint_attention(self, count: int) -> AbstractContextManager[None]:
        """A context in which the network's self-attentions see, of every `count` pictures in turn, all together.

        Without effect for a single picture; only where `has_self_attention`.
        """
        if count > 1:
            raise ValueError(f"{self.name} has no self-attention to share")
        return nullcontext()

    def about(self) -> dict[str, Any]:
        """What run.json says of it."""
        return {
            "name": self.name,
            "family": self.family,
            "revision": self.revision,
            "device": str(self.device),
        }

    @property
    def may_overflow(self) -> bool:
        """Whether its networks run in half precision, so that a step may be worth another try `in_float32`."""
        return False

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        """Its networks in float32 for a while; half-precision weights come back to the bit."""
        yield

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of the prompt that the prior has never seen; empty for open-vocabulary models."""
        return []

    def nearest_words(self, word: str) -> list[str]:
        """Known words spelled like `word`."""
        return []
