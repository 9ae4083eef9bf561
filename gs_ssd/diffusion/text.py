"""A text condition: what a prior makes of prompts, handed back to it unread.

Families need different things beside the token states, so guidance passes the record on whole and never looks inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import torch
from torch import Tensor


@dataclass(frozen=True)
class TextCondition:
    """The encodings of B prompts.

    Attributes:
        hidden: token states [B, L, D].
        mask: which tokens count, [B, L] bool; None: all.
        pooled: one vector per prompt [B, P], where the network takes it (SDXL, SD 3, FLUX).
        control: a picture per prompt [B, 3, H, W] in [0, 1] for the prior's ControlNet, where it has one.
    """

    hidden: Tensor
    mask: Tensor | None = None
    pooled: Tensor | None = None
    control: Tensor | None = None

    def __len__(self) -> int:
        return len(self.hidden)

    def map(self, change: Callable[[Tensor], Tensor]) -> TextCondition:
        """The record with `change` applied to each of its tensors."""
        rest = (self.mask, self.pooled, self.control)
        return TextCondition(change(self.hidden), *(None if x is None else change(x) for x in rest))

    def tensors(self) -> list[Tensor]:
        """Those that are there."""
        return [x for x in (self.hidden, self.mask, self.pooled, self.control) if x is not None]

    def with_control(self, control: Tensor) -> TextCondition:
        """The record repeated to the pictures [B, 3, H, W] that go with it."""
        return replace(self.expand(len(control)), control=control)

    def split(self) -> list[TextCondition]:
        """One record per prompt."""
        return [self.map(itemgetter(slice(i, i + 1))) for i in range(len(self))]

    def expand(self, count: int) -> TextCondition:
        """A single prompt's record repeated to a batch of `count`; a batch of that size is left as it is."""
        return self if len(self) == count else self.map(lambda x: x.expand(count, *x.shape[1:]))

    @classmethod
    def cat(cls, records: Sequence[TextCondition]) -> TextCondition:
        """The records of one prior, as one batch."""
        rest = ([r.mask for r in records], [r.pooled for r in records], [r.control for r in records])
        return cls(torch.cat([r.hidden for r in records]), *map(_joined, rest))


def _joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
    """One batch, or None where the records have none."""
    there = [x for x in tensors if x is not None]
    return torch.cat(there) if there else None
