"""Which timestep a step of the edit uses: one sampler per published rule.

A sampler maps (step i, num_steps N, the prior's noise schedule of T timesteps) to an integer timestep; `ratio_max` and
`ratio_min` bound it as fractions of T. The annealed rules are deterministic and never increase, so an edit settles its
layout before its details. They are tied to N, so they go all the way however many steps there are. Of a model that
was distilled to a few timesteps, the nearest one is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gs_ssd.diffusion.schedule import NoiseSchedule


class TimestepSampler(Protocol):
    """The timestep t of a step, the `step`-th of `num_steps` from 0 on; rules that draw it use `generator`."""

    def __call__(
        self, step: int, num_steps: int, schedule: NoiseSchedule, generator: torch.Generator | None = None
    ) -> int: ...


def _check(ratio_min: float, ratio_max: float) -> None:
    if not 0 <= ratio_min <= ratio_max <= 1:
        raise ValueError(
            f"timesteps.ratio_min={ratio_min} must not exceed timesteps.ratio_max={ratio_max}, both from 0 to 1"
        )


def _bounds(ratio_min: float, ratio_max: float, num_timesteps: int) -> tuple[int, int]:
    low = min(max(1, int(num_timesteps * ratio_min)), num_timesteps - 2)
    return low, max(low + 1, min(int(num_timesteps * ratio_max), num_timesteps - 1))


@dataclass(frozen=True)
class Linear:
    """SSD's and DreamCatalyst's rule: idx = trunc((max − min)·(N − i)/N + min), t = idx + 1 (981 … 21)."""

    ratio_max: float = 0.98
    ratio_min: float = 0.02

    def __post_init__(self) -> None:
        _check(self.ratio_min, self.ratio_max)

    def __call__(
        self, step: int, num_steps: int, schedule: NoiseSchedule, generator: torch.Generator | None = None
    ) -> int:
        low, high = _bounds(self.ratio_min, self.ratio_max, len(schedule))
        index = int((high - low) * (num_steps - step) / num_steps + low)
        return schedule.nearest(min(index + 1, len(schedule) - 1))


@dataclass(frozen=True)
class Uniform:
    """t ~ U{min, …, max}, inclusive: SDS and VSD (0.02, 0.98), DDS and CDS (0.05, 0.948)."""

    ratio_max: float = 0.98
    ratio_min: float = 0.02

    def __post_init__(self) -> None:
        _check(self.ratio_min, self.ratio_max)

    def __call__(
        self, step: int, num_steps: int, schedule: NoiseSchedule, generator: torch.Generator | None = None
    ) -> int:
        low, high = _bounds(self.ratio_min, self.ratio_max, len(schedule))
        return schedule.nearest(int(torch.randint(low, high + 1, (), generator=generator)))


@dataclass(frozen=True)
class Sqrt:
    """HiFA's annealing: t = trunc((max − min)·(1 − √(i/N)) + min)."""

    ratio_max: float = 0.98
    ratio_min: float = 0.30

    def __post_init__(self) -> None:
        _check(self.ratio_min, self.ratio_max)

    def __call__(
        self, step: int, num_steps: int, schedule: NoiseSchedule, generator: torch.Generator | None = None
    ) -> int:
        low, high = _bounds(self.ratio_min, self.ratio_max, len(schedule))
        return schedule.nearest(int((high - low) * (1 - math.sqrt(step / num_steps)) + low))


@dataclass(frozen=True)
class DreamTime:
    """DreamTime's time-prioritised rule (ICLR 2024): i/N of the weight W lies above t(i).

    W = σ_t/α_t · exp(−(t − m)²/2 s²), and σ_t/α_t = √((1 − ᾱ_t)/ᾱ_t) as published
    """

    ratio_max: float = 0.98
    ratio_min: float = 0.02
    m: float = 500
    s: float = 125

    def __post_init__(self) -> None:
        _check(self.ratio_min, self.ratio_max)

    def __call__(
        self, step: int, num_steps: int, schedule: NoiseSchedule, generator: torch.Generator | None = None
    ) -> int:
        low, high = _bounds(self.ratio_min, self.ratio_max, len(schedule))
        t = torch.arange(high, low - 1, -1)
        weight = self.weight(t, schedule.sigmas[t] / schedule.alphas[t])
        mass = torch.cumsum(weight / weight.sum(), dim=0)
        index = int(torch.searchsorted(mass, torch.tensor(step / num_steps, dtype=torch.float64)))
        return schedule.nearest(max(high - index, low))

    def weight(self, t: Tensor, noise_ratio: Tensor) -> Tensor:
        """W of timesteps t with their σ/α, up to a factor."""
        return noise_ratio * torch.exp(-((t - self.m) ** 2) / (2 * self.s**2))


@dataclass(frozen=True)
class DreamTimeV1(DreamTime):
    """The rule of the first version: W = exp(−(t − m1)²/2 s1²) above m1, 1 down to m2, exp(−(t − m2)²/2 s2²) below."""

    m: float = 800
    s: float = 300
    m2: float = 500
    s2: float = 100

    def weight(self, t: Tensor, noise_ratio: Tensor) -> Tensor:
        above = (t - self.m).clamp(min=0) / self.s
        below = (t - self.m2).clamp(max=0) / self.s2
        return torch.exp(-(above**2 + below**2) / 2)
