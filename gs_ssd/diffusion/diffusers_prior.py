"""What all adapters to diffusers share: a frozen network, its autoencoder, and what the network predicts.

An adapter adds two things: how prompts become a TextCondition, and how its network is called. Everything is frozen and
in evaluation mode. Of a large model, text encoders are in memory only while they encode, and the network only after
that (`parts.py`). Network and text encoders run in half precision on CUDA; the autoencoder stays in float32, because
gradients flow through its encoder.

A network predicts one of

    epsilon        ε
    v_prediction   α ε − σ z, variance-preserving models only     ε = α v + σ z_t
    sample         z                                              ε = (z_t − α z)/σ
    flow           ε − z, rectified-flow models only              ε = z_t + α v

A transformer reads its latents in patches of 2 x 2 cells. Its prior's latents are those patches, [B, 4C, h/2, w/2]:
a permutation, so gradients and noise mean the same, and image sides must be multiples of what a patch covers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gs_ssd.diffusion.parts import bring, cast, drop, is_stored, keep
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.diffusion.text import TextCondition
from gs_ssd.errors import UserError

LOSS_SCALE = 64.0  # of a half-precision autoencoder's gradient: far from both ends of float16's range
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample", "flow")

# (latents [B, C, h, w], what the network is told of the time [B], condition, FreeU) → the network's output
Ask = Callable[[Tensor, Tensor, TextCondition, bool], Tensor]


class Shortcut(Protocol):
    """A faster way to ask the network than to call it: a trace, a CUDA graph. It knows no gradients and no hooks."""

    def __call__(self, z_t: Tensor, time: Tensor, text: TextCondition, freeu: bool) -> Tensor: ...

    def forget(self) -> None:
        """Begin anew: the weights have moved."""
        ...


class DiffusersPrior(DiffusionPrior):
    """A network and an autoencoder as diffusers loads them.

    Args:
        network: a UNet or a transformer.
        vae: its autoencoder.
        schedule, prediction_type: how it was trained.
        encoders: the text encoders, which `encode_prompt` uses.
        resolution: the image side in pixels it was trained at; None takes it from the network's sample size.
        patch: cells per side of a patch of latents, 2 for transformers.
        name, family: how reports and settings call the model.
        device: where it runs.
        dtype: of the network and the text encoders; None takes `half` on CUDA and float32 elsewhere.
        freeu: use FreeU (see `freeu.py`) for the guidances that were published with it.
        offload: "text" drops stored text encoders (see `parts.py`) and keeps others on the CPU but while they encode;
            "none" keeps all on the device.
    """

    half = torch.float16
    shortcut: Shortcut | None = None  # `predict_noise` goes through it

    def __init__(
        self,
        *,
        network: Any,
        vae: Any,
        schedule: NoiseSchedule,
        prediction_type: str,
        encoders: list[torch.nn.Module | None],
        name: str,
        family: str,
        resolution: int | None = None,
        patch: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        freeu: bool = False,
        offload: str = "text",
    ) -> None:
        if prediction_type not in PREDICTION_TYPES:
            raise UserError(
                f"{name} predicts {prediction_type!r}; supported are {', '.join(PREDICTION_TYPES)}"
            )
        self.name, self.family = name, family
        self.device = torch.device(device)
        dtype = dtype or (self.half if self.device.type == "cuda" else torch.float32)
        self._network = frozen(network, self.device, dtype)
        self.vae = frozen(vae, self.device, torch.float32)
        if offload not in ("none", "text"):
            raise UserError(f"diffusion.offload={offload} is none of none, text")
        self.offload = offload
        self.rest = torch.device("cpu") if offload == "text" else self.device
        self.encoders = [frozen(encoder, self.rest, dtype) for encoder in encoders if encoder is not None]
        self.small_encoder: Any = None
        self.schedule, self.prediction_type = schedule, prediction_type
        self.patch = patch
        self.latent_channels = vae.config.latent_channels * patch**2
        self.scaling_factor = getattr(vae.config, "scaling_factor", None) or 1.0
        self.shift_factor = getattr(vae.config, "shift_factor", None) or 0.0
        self.vae_scale_factor = patch * (
            2 ** (len(vae.config.block_out_channels) - 1)
            if "block_out_channels" in vae.config
            else vae.config.patch_size
        )
        self.resolution = resolution or network.config.sample_size * self.vae_scale_factor // patch
        self.freeu = freeu

    @property
    def network(self) -> Any:
        """The UNet or transformer; a stored one is read when it is first asked for."""
        return bring(self._network, self.device)

    @network.setter
    def network(self, network: Any) -> None:
        self._network = network

    def about(self) -> dict[str, Any]:
        return super().about() | {
            "dtype": {
                name: str(part.dtype).removeprefix("torch.")
                for name, part in (("network", self.network), ("vae", self.vae))
            },
            "offload": self.offload,
            "tiny_vae": self.small_encoder is not None,
        }

    # Latents

    def encode(self, rgb: Tensor) -> Tensor:
        """The posterior mean, shifted and scaled (the official code samples; the mean has no extra variance)."""
        x = rgb.permute(0, 3, 1, 2).to(self.device, torch.float32) * 2 - 1
        if self.small_encoder is not None:
            return self.pack(self.small_encoder.encode(x).latents)
        if self.vae.dtype == torch.float32:
            z = self.vae.encode(x).latent_dist.mode()
        else:
            x = scale_gradient(x, 1 / LOSS_SCALE).to(self.vae.dtype)
            z = scale_gradient(self.vae.encode(x).latent_dist.mode().float(), LOSS_SCALE)
        if self.shift_factor:
            z = z - self.shift_factor
        return self.pack(z * self.scaling_factor)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        z = self.unpack(z.to(self.device, torch.float32)) / self.scaling_factor
        if self.shift_factor:
            z = z + self.shift_factor
        return (
            (self.vae.decode(z.to(self.vae.dtype)).sample.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
        )

    def pack(self, z: Tensor) -> Tensor:
        return z if self.patch == 1 else F.pixel_unshuffle(z, self.patch)

    def unpack(self, z: Tensor) -> Tensor:
        return z if self.patch == 1 else F.pixel_shuffle(z, self.patch)

    # Text

    @abstractmethod
    def encode_words(self, prompts: list[str]) -> TextCondition:
        """What `encode_prompt` gives, with the text encoders on the device."""

    @torch.no_grad()
    def encode_prompt(self, prompts: list[str]) -> TextCondition:
        """The text conditions; then the network is read, so that what is wrong with it shows before the first step."""
        for encoder in self.encoders:
            bring(encoder, self.device)
        try:
            text = self.encode_words(prompts)
        finally:
            if self.offload == "text":
                for encoder in self.encoders:
                    drop(encoder, self.rest)
        bring(self._network, self.device)
        return text

    def keep_weights(self) -> list[Any]:
        """The network and the text encoders, read and never dropped again: for what changes them."""
        modules = [self.network, *(bring(encoder, self.rest) for encoder in self.encoders)]
        for module in modules:
            keep(module)
        return modules

    # Predictions

    def time(self, t: int) -> float:
        """What the network is told of timestep t: its index, where a family knows no other."""
        return t

    @abstractmethod
    def forward(self, z_t: Tensor, time: Tensor, text: TextCondition) -> Tensor:
        """What the network makes of unpacked latents [B, C, h, w] and a condition, both in its own dtype.

        `time` [B] is a tensor in float32 on the device. Nothing here may wait for the device or read from the host, so
        that a CUDA graph can hold the call.
        """

    def ask(self, z_t: Tensor, time: Tensor, text: TextCondition, freeu: bool) -> Tensor:
        """`forward`, with FreeU where it is wanted and the prior has it."""
        return self.forward(z_t, time, text)

    @torch.no_grad()
    def predict_noise(
        self, z_t: Tensor, t: int, text: TextCondition, image: Tensor | None = None, *, freeu: bool = False
    ) -> Tensor:
        output = self.network_output(z_t, t, text, image, freeu=freeu, ask=self.shortcut)
        return self.to_noise(output, z_t, t)

    def to_noise(self, output: Tensor, z_t: Tensor, t: int) -> Tensor:
        """The ε that the network's output says, whatever it predicts."""
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        if self.prediction_type == "v_prediction":
            return alpha * output + sigma * z_t
        if self.prediction_type == "sample":
            return (z_t - alpha * output) / sigma
        if self.prediction_type == "flow":
            return z_t + alpha * output
        return output

    def network_output(
        self,
        z_t: Tensor,
        t: int,
        text: TextCondition,
        image: Tensor | None = None,
        *,
        freeu: bool = False,
        ask: Ask | None = None,
    ) -> Tensor:
        """What the network itself predicts, in the dtype of z_t, with its graph; `ask` stands in for `self.ask`."""
        dtype = self.network.dtype
        # Masks are no numbers to round.
        text = text.map(lambda x: x.to(dtype) if x.is_floating_point() else x)
        time = torch.full((len(z_t),), float(self.time(t)), dtype=torch.float32, device=z_t.device)
        return self.pack((ask or self.ask)(self.unpack(z_t).to(dtype), time, text, freeu)).to(z_t.dtype)

    def network_target(self, z: Tensor, noise: Tensor, t: int) -> Tensor:
        """What a perfect `network_output` is for the clean latents z and the drawn noise."""
        if self.prediction_type == "v_prediction":
            return self.schedule.alpha(t) * noise - self.schedule.sigma(t) * z
        if self.prediction_type == "flow":
            return noise - z
        return z if self.prediction_type == "sample" else noise

    @property
    def may_overflow(self) -> bool:
        return any(part.dtype in (torch.float16, torch.bfloat16) for part in self.running)

    @property
    def running(self) -> list[Any]:
        """The networks that every step runs."""
        return [self.network, self.vae]

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        dtypes = {part: part.dtype for part in self.running}
        shortcut, self.shortcut = self.shortcut, None
        for part in dtypes:
            cast(part, torch.float32)
        try:
            yield
        finally:
            for part, dtype in dtypes.items():
                cast(part, dtype)
            if shortcut is not None:
                shortcut.forget()
                self.shortcut = shortcut


def frozen(module: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """The module where and as it is to run, without training; a stored one's weights stay in their files."""
    place = torch.device("meta") if is_stored(module) else device
    return torch.nn.Module.to(cast(module, dtype), place).eval().requires_grad_(False)


class _ScaleGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.scale, None


def scale_gradient(x: Tensor, scale: float) -> Tensor:
    """x, passing back its gradient times `scale`: between two of these, small gradients survive half precision."""
    return _ScaleGradient.apply(x, scale)
