"""An autoencoder whose activations fit float16, with the same output: SDXL's own overflow there.

Encoder and decoder carry a stream h, to which blocks add and which nothing reads but through a group norm. So a stream
of s h says the same: with s a power of two, what is added is scaled by s in its last weights and biases, and a norm's
ε by s²; each number then differs from the original's by its exponent alone. The convolution between a block's two
norms is scaled likewise. From there to the end of the range is 1/s times as far.
"""

from __future__ import annotations

from typing import Any

import torch

SCALE = 2.0**-5  # activations up to 2 million; gradients of the stream grow by 32


@torch.no_grad()
def lower_activations(vae: Any, scale: float = SCALE) -> None:
    """Scale the streams of an autoencoder of diffusers' convolutional kind, in place; others stay as they are."""
    from diffusers.models.attention_processor import Attention
    from diffusers.models.autoencoders.vae import Decoder, Encoder
    from diffusers.models.downsampling import Downsample2D
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.upsampling import Upsample2D

    def lower(layer: Any) -> None:
        layer.weight.mul_(scale)
        layer.bias.mul_(scale)

    for half in (getattr(vae, "encoder", None), getattr(vae, "decoder", None)):
        if not isinstance(half, Encoder | Decoder):
            continue
        lower(half.conv_in)
        norms = [half.conv_norm_out]
        for part in half.modules():
            if isinstance(part, ResnetBlock2D):
                lower(part.conv1)
                lower(part.conv2)
                norms += [part.norm1, part.norm2]
                if part.conv_shortcut is not None:  # of the stream itself
                    part.conv_shortcut.bias.mul_(scale)
            elif isinstance(part, Attention):
                lower(part.to_out[0])
                norms.append(part.group_norm)
            elif isinstance(part, Downsample2D | Upsample2D):
                part.conv.bias.mul_(scale)
        for norm in norms:
            norm.eps *= scale**2
