"""What the rectified-flow transformers share: SD 3, FLUX.1, FLUX.2 and Z-Image."""

from __future__ import annotations

import math
from typing import Any

import torch

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior
from gs_ssd.diffusion.schedule import NoiseSchedule

PATCH = 2  # cells per side of what the transformer reads as one token


class FlowPrior(DiffusersPrior):
    """A transformer that predicts v = ε − z, runs in bfloat16 and is told σ."""

    half = torch.bfloat16

    def __init__(self, *, transformer: Any, vae: Any, scheduler: Any, **kwargs: Any) -> None:
        cell = 2 ** (len(vae.config.block_out_channels) - 1)
        cells = getattr(transformer.config, "sample_size", None)  # most transformers name none
        resolution = cells * cell if cells else vae.config.sample_size
        super().__init__(
            network=transformer,
            vae=vae,
            schedule=flow_schedule(scheduler, tokens=(resolution // (PATCH * cell)) ** 2),
            prediction_type="flow",
            patch=PATCH,
            resolution=resolution,
            **kwargs,
        )

    def time(self, t: int) -> float:
        return self.schedule.sigma(t)


def flow_schedule(scheduler: Any, *, tokens: int) -> NoiseSchedule:
    """The schedule of a FlowMatchEulerDiscreteScheduler for images of so many patches."""
    config = scheduler.config
    shift = config.shift
    if config.use_dynamic_shifting:
        slope = (config.max_shift - config.base_shift) / (
            config.max_image_seq_len - config.base_image_seq_len
        )
        shift = math.exp(config.base_shift + slope * (tokens - config.base_image_seq_len))
    return NoiseSchedule.rectified_flow(shift=shift, num_timesteps=config.num_train_timesteps)
