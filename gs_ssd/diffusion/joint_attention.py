"""Self-attention across pictures: what is drawn in one view is seen while the others are drawn.

Editors of several views at once (DGE's "spatio-temporal attention", Tune-A-Video's before it) let the queries of each
picture attend to the keys and values of all pictures of its group. In a UNet of diffusers these are the `attn1` layers,
which take their keys and values from `encoder_hidden_states` where they are given any.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers import UNet2DConditionModel
from torch import nn


@contextmanager
def shared_self_attention(unet: UNet2DConditionModel, count: int) -> Iterator[None]:
    """Within it, every `count` pictures of a batch in turn are one group; a single picture is left as it is."""
    if count == 1:
        yield
        return

    def share(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]  # [B, L, D]
        groups = hidden.unflatten(0, (-1, count)).flatten(1, 2)  # [B / count, count L, D]
        return args, kwargs | {"encoder_hidden_states": groups.repeat_interleave(count, dim=0)}

    layers = [layer for name, layer in unet.named_modules() if name.endswith(".attn1")]
    hooks = [layer.register_forward_pre_hook(share, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
