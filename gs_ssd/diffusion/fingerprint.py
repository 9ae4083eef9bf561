"""Whether two priors are the same, without reading gigabytes."""

from __future__ import annotations

import hashlib

import torch

from gs_ssd.diffusion.parts import is_stored
from gs_ssd.diffusion.prior import DiffusionPrior

SAMPLE = 32  # values of each tensor


def fingerprint(prior: DiffusionPrior) -> str:
    """A digest of a prior's schedule and of its networks' tensors: their names, shapes and first values.

    Text encoders that lie in their files are not read for it.
    """
    digest = hashlib.sha256()
    steps = range(0, len(prior.schedule), 100)
    digest.update(repr([(prior.schedule.alpha(t), prior.schedule.sigma(t)) for t in steps]).encode())
    names = sorted(
        name.removeprefix("_") for name, x in vars(prior).items() if isinstance(x, torch.nn.Module)
    )
    for part in names:
        network = getattr(prior, part)
        if part == "network" or not is_stored(network):
            for name, tensor in network.state_dict().items():
                digest.update(f"{part}.{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
                digest.update(repr(tensor.flatten()[:SAMPLE].tolist()).encode())
    return digest.hexdigest()
