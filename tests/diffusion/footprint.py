"""What a full-size model takes of a GPU, counted on the meta device: no weights, no card, as torch allocates it.

Attention is counted as fused kernels do it, without the matrix of all pairs. What the libraries take for themselves
(context, workspaces, fragments) is not counted.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import diffusers
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior
from gs_ssd.diffusion.full_size import full_size_prior
from gs_ssd.diffusion.text import TextCondition

# Length and width of an encoded prompt, and width of the pooled one.
WORDS: dict[str, tuple[int, int, int]] = {
    "sd15": (77, 768, 0),
    "sd21": (77, 1024, 0),
    "ip2p": (77, 768, 0),
    "sdxl": (77, 2048, 1280),
    "sd35": (77 + 256, 4096, 2048),
    "flux": (512, 4096, 768),
    "flux2": (512, 7680, 0),
    "z_image": (32, 2560, 0),
    "pixart": (300, 4096, 0),
}
BRANCHES = 4  # of SSD


class Live(TorchDispatchMode):
    """The bytes of all tensors that are made within and still there, and the most there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen: set[int] = set()
        self.before: dict[int, torch.UntypedStorage] = {}  # kept, or what comes later could have its address

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for x in tree_leaves((args, kwargs)):
            if isinstance(x, Tensor) and x.untyped_storage()._cdata not in self.seen:
                self.before[x.untyped_storage()._cdata] = x.untyped_storage()  # a weight, or an input
        out = function(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and x.is_meta:
                self._add(x.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.before:
            return
        if key not in self.seen:
            self.seen.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


class _Fused(torch.autograd.Function):
    """Attention by its shapes: what a fused kernel keeps, and what it makes."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        ctx.save_for_backward(q, k, v, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(x) for x in ctx.saved_tensors[:3])


class FusedAttention(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.scaled_dot_product_attention:
            given = dict(zip(("query", "key", "value"), args)) | (kwargs or {})
            return _Fused.apply(given["query"], given["key"], given["value"])
        return function(*args, **(kwargs or {}))


def peak(work: Callable[[], object]) -> float:
    """GB at the most while `work` runs, beside what was there before."""
    with Live() as live, FusedAttention():
        work()
    return live.peak / 1e9


def footprint(name: str, side: int = 512) -> dict[str, float]:
    """GB of weights (half precision, the autoencoder in float32) and of activations for one view of side² pixels."""
    prior = full_size_prior(name, device="meta", offload="none")
    rgb = torch.empty(1, side, side, 3, device="meta", requires_grad=True)

    def encode() -> None:
        z = prior.encode(rgb)
        z.backward(torch.empty_like(z))

    with torch.no_grad():
        z = prior.unpack(prior.encode(rgb))
    return {
        "network": weights(prior.network),
        "text": sum(weights(encoder) for encoder in prior.encoders),
        "autoencoder": weights(prior.vae),
        "encode": peak(encode),
        "predict": peak(lambda: predict(prior, name, z)),
    }


@torch.no_grad()
def predict(prior: DiffusersPrior, name: str, z: Tensor) -> None:
    length, width, pooled = WORDS[name]
    like = {"device": "meta", "dtype": prior.network.dtype}
    text = TextCondition(
        torch.empty(BRANCHES, length, width, **like),
        pooled=torch.empty(BRANCHES, pooled, **like) if pooled else None,
        mask=torch.ones(BRANCHES, length, dtype=torch.bool) if name in ("z_image", "pixart") else None,
    )
    twice = 2 if prior.takes_image else 1
    z_t = torch.empty(BRANCHES, twice * z.shape[1], *z.shape[2:], **like)
    if name == "pixart":
        text = text.map(lambda x: x.to("meta"))
    prior.forward(z_t, torch.empty(BRANCHES, device="meta"), text)


def weights(module: torch.nn.Module) -> float:
    return sum(p.numel() * p.element_size() for p in module.parameters()) / 1e9


def encode_taesd(side: int = 512) -> float:
    """GB of activations of a tiny autoencoder's encoder, there and back."""
    with torch.device("meta"):
        small = diffusers.AutoencoderTiny().requires_grad_(False)
    x = torch.empty(1, 3, side, side, device="meta", requires_grad=True)

    def encode() -> None:
        z = small.encode(x).latents
        z.backward(torch.empty_like(z))

    return peak(encode)
