"""What a .ply holds besides the six tensors: columns this package doesn't know, header comments, other elements.

Mip-Splatting's `filter_3D`, segment labels, normals, the tags of other trainers: an edit carries them along, so that
the Gaussians it leaves alone are the input's to the byte. The columns are kept as raw bytes, one row per Gaussian, and
follow every selection; a Gaussian that grows from another inherits its row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

_MODE_TAG = "splatrendermode:"  # Brush and SuperSplat write "SplatRenderMode: mip"
_POSTSHOT_TAG = "antialiased"  # Postshot writes "antialiased 1"


@dataclass(frozen=True)
class Extra:
    """The rest of a .ply.

    Attributes:
        rows: the columns' bytes, [N, B] uint8.
        columns: their names and types, of B bytes together. A column that one of the six tensors holds in less
            precision than the file (float64 positions) is among them, too.
        properties: names and types of all properties of a Gaussian in the file's order.
        header: the comment and obj_info lines, whole.
        before, after: other elements of the file, by name, in front of the Gaussians and behind them.
    """

    rows: Tensor
    columns: np.dtype
    properties: tuple[tuple[str, str], ...]
    header: tuple[str, ...] = ()
    before: tuple[tuple[str, np.ndarray], ...] = ()
    after: tuple[tuple[str, np.ndarray], ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | Tensor) -> Extra:
        """The rows selected by a slice, index tensor or boolean mask; everything else stays."""
        return self.with_rows(self.rows[index])

    def with_rows(self, rows: Tensor) -> Extra:
        """The same store with other rows [M, B]."""
        return replace(self, rows=rows)

    @property
    def names(self) -> tuple[str, ...]:
        return self.columns.names or ()

    def column(self, name: str) -> np.ndarray:
        """One column [N] in the file's type."""
        rows = np.ascontiguousarray(self.rows.detach().cpu().numpy())
        return rows.view(self.columns)[:, 0][name]


def is_antialiased(header: tuple[str, ...]) -> bool:
    """Whether the last tag among the comment lines says that the scene was trained with opacity compensation."""
    answer = False
    for line in header:
        words = _words(line)
        if _is_mode(words):
            answer = words[1:] == ["mip"]
        elif _is_postshot(words):
            answer = words[1] == "1"
    return answer


def tagged(header: tuple[str, ...], antialiased: bool) -> tuple[str, ...]:
    """The comment lines with a tag that says `antialiased`; untouched where they say so already."""
    if is_antialiased(header) == antialiased:
        return header
    plain = tuple(line for line in header if not (_is_mode(_words(line)) or _is_postshot(_words(line))))
    return (*plain, "comment SplatRenderMode: mip") if antialiased else plain


def _words(line: str) -> list[str]:
    """The words of a comment, in lower case, the tag in one with its colon."""
    kind, *rest = line.split(maxsplit=1)
    return rest[0].lower().replace(":", ": ").split() if kind == "comment" and rest else []


def _is_mode(words: list[str]) -> bool:
    return len(words) == 2 and words[0] == _MODE_TAG


def _is_postshot(words: list[str]) -> bool:
    return len(words) == 2 and words[0] == _POSTSHOT_TAG and words[1] in ("0", "1")
