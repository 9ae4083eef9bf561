"""The parts of a model folder, read when they are wanted.

Large networks and text encoders are stored: a stored module is its class on the meta device, with its configuration,
its shapes and its type, and no weights. `bring` reads those from the folder, `drop` lets them go. So the text encoders
of an edit are gone before its network comes, and at no time are both in memory.

Files of another type than the weights run in are read tensor by tensor: of a file that is mapped as a whole, every page
that was looked at stays in memory beside what was made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from gs_ssd.diffusion.folders import ModelFolder
from gs_ssd.errors import UserError

SMALL = 100e6  # bytes of weights below which a part is read at once and stays


def load_part(model: ModelFolder, part: str, dtype: torch.dtype) -> Any:
    """One part as diffusers or transformers make it; of a large network or text encoder, the stored module.

    The autoencoder is read in float32, other weights in `dtype`. Raises UserError for what can't be read.
    """
    loader = _class(model, part)
    if part not in model.models():
        return _read(model, part, lambda: loader.from_pretrained(model.path, **_place(part)))
    if part == "vae":
        return _read(model, part, lambda: _whole(model, part, torch.float32))
    half = dtype != torch.float32
    if sum(file.stat().st_size for file in model.weights(part, half=half)[1]) < SMALL:
        return _read(model, part, lambda: _whole(model, part, dtype))
    module = cast(_read(model, part, lambda: _empty(model, part)), dtype)
    module.read_weights = lambda dtype: _read(model, part, lambda: _whole(model, part, dtype))
    return module


def is_stored(module: Any) -> bool:
    """Whether the module's weights can be dropped and brought again."""
    return getattr(module, "read_weights", None) is not None


def bring(module: Any, device: torch.device) -> Any:
    """The module on a device; a stored one's weights are read, if they are not in memory."""
    if is_stored(module) and next(module.parameters()).is_meta:
        whole = module.read_weights(next(module.parameters()).dtype)
        tensors = (
            whole.named_parameters(remove_duplicate=False),
            whole.named_buffers(remove_duplicate=False),
        )
        for name, tensor in chain(*tensors):
            owner, _, own = name.rpartition(".")
            setattr(module.get_submodule(owner), own, tensor.requires_grad_(False))
    return torch.nn.Module.to(module, device)


def cast(module: Any, dtype: torch.dtype) -> Any:
    """The module with its parameters in a type. Buffers stay as they are: rounded frequencies would misplace words."""
    owners = list(module.modules())
    buffers = [(owner, name, x) for owner in owners for name, x in owner.named_buffers(recurse=False)]
    # Module.to is torch's own: diffusers' override warns about casts that these models don't mind.
    torch.nn.Module.to(module, dtype)
    for owner, name, buffer in buffers:
        setattr(owner, name, buffer)
    return module


def drop(module: Any, rest: torch.device) -> None:
    """Let a stored module's weights go; another one's wait on the device `rest`."""
    torch.nn.Module.to(module, "meta" if is_stored(module) else rest)


def keep(module: Any) -> None:
    """Never drop the module's weights from now on: they are no longer those of the folder."""
    module.read_weights = None


def _class(model: ModelFolder, part: str) -> Any:
    library, name = model.parts[part]
    if name == "PatchAutoencoder":
        from gs_ssd.diffusion.patch_autoencoder import PatchAutoencoder

        return PatchAutoencoder
    if library not in ("diffusers", "transformers"):
        raise UserError(
            f"{part} is a {library}.{name}, which is not loaded; only diffusers and transformers are"
        )
    # Noise schedules are read from the file's numbers, whichever sampler it names; SDXL and PixArt alike.
    if part == "scheduler" and "FlowMatch" not in name:
        name = "DDIMScheduler"
    return getattr(import_module(library), name)


def _place(part: str) -> dict[str, Any]:
    return {"subfolder": part, "local_files_only": True}


def _read(model: ModelFolder, part: str, read: Callable[[], Any]) -> Any:
    """What `read` returns; raises UserError with its reason."""
    try:
        with quietly():
            return read()
    except (UserError, torch.OutOfMemoryError):
        raise
    # The loaders raise many types for a bad file (safetensors, json, OS, value errors), all of them input.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"can't load the diffusion model {model.path}: {part}: {reason}; is it a complete diffusers folder?"
        ) from error


def _empty(model: ModelFolder, part: str) -> Any:
    """The part on the meta device."""
    loader = _class(model, part)
    with torch.device("meta"):
        if model.parts[part][0] == "transformers":
            return loader(loader.config_class.from_pretrained(model.path, **_place(part)))
        return loader.from_config(loader.load_config(model.path, **_place(part)))


def _whole(model: ModelFolder, part: str, dtype: torch.dtype) -> Any:
    """The part with its weights in `dtype`."""
    loader, library = _class(model, part), model.parts[part][0]
    variant, files = model.weights(part, half=dtype != torch.float32)
    types = _types(files)
    where = {**_place(part), "use_safetensors": True, "variant": variant}
    if types == {dtype} or part == "vae":
        key = "dtype" if library == "transformers" else "torch_dtype"
        return loader.from_pretrained(model.path, **where, **{key: dtype})
    weights = _converted(files, dtype)
    if library == "transformers":
        config = loader.config_class.from_pretrained(model.path, **_place(part))
        return loader.from_pretrained(None, config=config, state_dict=weights, dtype=dtype)
    # In the file's own type nothing is copied, and nothing read that is not looked at.
    module = loader.from_pretrained(model.path, **where, torch_dtype=max(types, key=str))
    module.load_state_dict(weights, strict=False, assign=True)
    return cast(module, dtype)


def _types(files: list[Path]) -> set[torch.dtype]:
    """The types of the floating-point tensors in safetensors files."""
    known = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    found = set()
    for file in files:
        with safe_open(file, "pt") as opened:
            found |= {opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118  it is no dict
    return {known[name] for name in found & known.keys()}


def _converted(files: list[Path], dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of safetensors files by name, those of floating point in `dtype`, all in memory of their own."""
    weights = {}
    for file in files:
        with safe_open(file, "pt") as opened:
            names = list(opened.keys())
        for name in names:
            with safe_open(file, "pt") as opened:  # anew, so that the pages of the last one are given back
                tensor = opened.get_tensor(name)
                weights[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor.clone()
    return weights


@contextmanager
def quietly() -> Iterator[None]:
    """Without the loaders' own progress bars and hints, which tell a user nothing that the run's own doesn't."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        diffusers_logging.enable_progress_bar()
        if shown:
            transformers_logging.enable_progress_bar()
