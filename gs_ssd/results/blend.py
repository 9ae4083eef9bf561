"""An edit at half its strength: between the source and the edit, and a little beyond.

`origin` [N_after] holds, for each edited Gaussian, the index of the source Gaussian that it descends from.
Densification clones, splits and removes, so three kinds of Gaussians meet at strength s:

    survivors   the first descendant of each source Gaussian: every parameter goes from the source's (s = 0) to the
                edit's (s = 1), and on along the same line beyond 1. Scales and opacities are stored as logarithms and
                logits and are interpolated so; rotations are interpolated along the shorter arc and normalised
    new ones    its further descendants: they grow out of their ancestor's place and shape and fade in, α = s α_after
    removed     source Gaussians without a descendant: they stay where they are and fade out, α = (1 − s) α_before

Beyond 1 only the survivors go on; the new ones stay as the edit has them, and the removed ones stay away.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gs_ssd.checks import number
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path, check_writable, sha256
from gs_ssd.results.folder import FILES, MANIFEST
from gs_ssd.scene import load_gaussians, save_gaussians
from gs_ssd.scene.gaussians import SH_C0, TENSORS, Gaussians

STRONGEST = 1.5
_FAINTEST = 1e-6  # opacity whose logit is still finite; it is drawn as nothing


@torch.no_grad()
def blend(before: Gaussians, after: Gaussians, origin: Tensor, strength: float) -> Gaussians:
    """The scene between `before` (strength 0) and `after` (1), each of which comes back as it is.

    Survivors and new ones keep the order of `after`, the removed ones follow in that of `before`. What the edit left
    untouched is bit-identical at every strength.

    Args:
        origin: [N_after] int64, indices into `before`.
        strength: from 0 to 1.5.

    Raises UserError for another strength, and for an `origin` or an `after` that belongs to another scene.
    """
    strength = number("strength", strength, least=0, most=STRONGEST)
    _check(before, after, origin)
    if strength == 0:
        return before
    if strength == 1:
        return after
    origin = origin.to(after.device)
    ancestors = before.to(after.device)[origin]
    mixed = _mixed(ancestors, after, strength)
    new = ~_first(origin, len(before))
    if strength < 1:
        faded = torch.where(new, _faded(after.opacities, strength), mixed.opacities)
        gone = torch.ones(len(before), dtype=torch.bool, device=after.device)
        gone[origin] = False
        removed = before.to(after.device)[gone]
        removed = replace(removed, opacities=_faded(removed.opacities, 1 - strength))
        return _joined(replace(mixed, opacities=faded), removed)
    for name, value in mixed.tensors().items():
        value[new] = after.tensors()[name][new]
    return mixed


def blend_run(
    run: str | os.PathLike,
    strength: float,
    *,
    source: str | os.PathLike | None = None,
    output: str | os.PathLike | None = None,
) -> Path:
    """Blend the source and the edit of a finished run; returns the file that is written.

    At strength 0 it is the source's file byte by byte, at 1 the edit's, where the suffix is theirs.

    Args:
        run: the run's folder.
        source: the scene that was edited, where it no longer lies where the run found it.
        output: in any format that can be written; None: blend_<strength>.ply in the run's folder.

    Raises UserError for a folder that is no run, a source that has changed, and an output that would replace either.
    """
    strength = number("strength", strength, least=0, most=STRONGEST)
    folder = Path(os.path.expanduser(run))
    before, after = _source_of(folder, source), folder / "edited.ply"
    target = folder / f"blend_{strength:g}.ply" if output is None else Path(os.path.expanduser(output))
    if any(os.path.exists(target) and target.samefile(file) for file in (before, *_present(folder))):
        raise UserError(f"output={target} would overwrite the run's own file; choose another name")
    check_writable(target.parent, "output")
    for whole, file in ((0, before), (1, after)):
        if strength == whole and target.suffix.lower() == file.suffix.lower():
            with atomic_path(target) as temporary:
                shutil.copyfile(file, temporary)
            return target
    origin = _origin_of(folder)
    save_gaussians(blend(load_gaussians(before), load_gaussians(after), origin, strength), target)
    return target


def _present(folder: Path) -> list[Path]:
    return [folder / name for name in FILES if (folder / name).exists()]


def _source_of(folder: Path, source: str | os.PathLike | None) -> Path:
    """The file that the run in `folder` edited, unchanged since."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        said, digest = manifest["input"]["path"], manifest["input"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"run={folder} holds no finished edit (no {MANIFEST} that names its input); give a folder that "
            "gs-ssd edit has written"
        ) from error
    if digest is None:
        raise UserError(f"run={folder} was made from nothing, so there is no source to blend with")
    path = Path(os.path.expanduser(source if source is not None else said))
    if not os.path.isfile(path):
        raise UserError(f"the run's source {path} is not there; say where it is: source=<file>")
    if sha256(path) != digest:
        raise UserError(
            f"{path} is not the file that the run edited, or has changed since; give source=<file>"
        )
    return path


def _origin_of(folder: Path) -> Tensor:
    try:
        return torch.from_numpy(np.load(folder / "origin.npy", allow_pickle=False))
    except FileNotFoundError as error:
        raise UserError(
            f"run={folder} has no origin.npy, which says what each Gaussian came from; edit again with this version"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder / 'origin.npy'} is damaged; edit again") from error


def _check(before: Gaussians, after: Gaussians, origin: Tensor) -> None:
    if origin.dtype not in (torch.int64, torch.int32) or tuple(origin.shape) != (len(after),):
        raise UserError(
            f"origin has shape {tuple(origin.shape)} and type {origin.dtype}, expected {len(after)} whole numbers: "
            "it belongs to another edit"
        )
    if len(origin) and not (int(origin.min()) >= 0 and int(origin.max()) < len(before)):
        raise UserError(
            f"origin names Gaussians from {int(origin.min())} to {int(origin.max())}, the source has {len(before)}: "
            "it belongs to another scene"
        )
    if before.sh_degree != after.sh_degree:
        raise UserError(
            f"the source has harmonics of degree {before.sh_degree}, the edit of degree {after.sh_degree}: "
            "they are no source and edit of one run"
        )


def _first(origin: Tensor, count: int) -> Tensor:
    """[N_after] bool: whether each Gaussian is the first descendant of its ancestor."""
    places = torch.arange(len(origin), device=origin.device)
    first = places.new_full((count,), len(origin)).scatter_reduce(0, origin.long(), places, "amin")
    return first[origin] == places


def _mixed(a: Gaussians, b: Gaussians, s: float) -> Gaussians:
    """a + s (b − a) row by row; what is equal in both stays bit-identical."""
    mixed: dict[str, Any] = {name: torch.lerp(a.tensors()[name], b.tensors()[name], s) for name in TENSORS}
    if s > 1:  # an extrapolated colour would leave what can be shown, as bright spots
        low = torch.minimum(a.sh0, b.sh0).clamp(max=-0.5 / SH_C0)
        high = torch.maximum(a.sh0, b.sh0).clamp(min=0.5 / SH_C0)
        mixed["sh0"] = mixed["sh0"].clamp(low, high)
    for name, value in mixed.items():
        mixed[name] = torch.where(a.tensors()[name] == b.tensors()[name], b.tensors()[name], value)
    same = (a.quats == b.quats).all(dim=1, keepdim=True)
    mixed["quats"] = torch.where(same, b.quats, _turned(a.quats, b.quats, s))
    return replace(b, **mixed)


def _turned(a: Tensor, b: Tensor, s: float) -> Tensor:
    """Rotations [N, 4] the share `s` of the way from a to b along the shorter arc, at constant speed; unit length."""
    a, b = torch.nn.functional.normalize(a, dim=1), torch.nn.functional.normalize(b, dim=1)
    cosine = (a * b).sum(dim=1, keepdim=True)
    b, cosine = torch.where(cosine < 0, -b, b), cosine.abs().clamp(max=1)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    near = sine < 1e-3  # the arc is a line, and its sine nearly 0
    safe = torch.where(near, torch.ones_like(sine), sine)
    weight_a = torch.where(near, 1 - torch.full_like(angle, s), torch.sin((1 - s) * angle) / safe)
    weight_b = torch.where(near, torch.full_like(angle, s), torch.sin(s * angle) / safe)
    return torch.nn.functional.normalize(weight_a * a + weight_b * b, dim=1)


def _faded(logits: Tensor, share: float) -> Tensor:
    """The logits of `share` times the opacities."""
    opacity = (share * logits.double().sigmoid()).clamp(_FAINTEST, 1 - _FAINTEST)
    return torch.logit(opacity).to(logits)


def _joined(a: Gaussians, b: Gaussians) -> Gaussians:
    extra = a.extra
    if extra is not None:
        extra = extra.with_rows(torch.cat([extra.rows, b.extra.rows])) if b.extra is not None else None
    tensors: dict[str, Any] = {
        name: torch.cat([value, b.tensors()[name]]) for name, value in a.tensors().items()
    }
    return replace(a, extra=extra, **tensors)
