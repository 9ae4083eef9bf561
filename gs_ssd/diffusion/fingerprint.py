"""Whether two priors are the same, without reading gigabytes."""

from __future__ import annotations

import hashlib

import torch

from gs_ssd.diffusion.prior import DiffusionPrior

SAMPLE = 32  # values of each tensor


def fingerprint(prior: DiffusionPrior) -> str:
    """A digest of a prior's schedule and of every network's tensors: their names, shapes and first values."""
    digest = hashlib.sha256()
    steps = range(0, len(prior.schedule), 100)
    digest.update(repr([(prior.schedule.alpha(t), prior.schedule.sigma(t)) for t in steps]).encode())
    for part, network in sorted(vars(prior).items()):
        if isinstance(network, torch.nn.Module):
            for name, tensor in network.state_dict().items():
                digest.update(f"{part}.{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
                digest.update(repr(tensor.flatten()[:SAMPLE].tolist()).encode())
    return digest.hexdigest()
