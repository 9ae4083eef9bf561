"""A hub model as a local folder: the cache first, then only the files that are needed, and true reasons for failure.

A model that is complete in the cache is used without asking the hub. Otherwise the small configurations come first, so
that an unsupported model is refused before gigabytes are loaded; then one set of weights, in half precision where it
will run in that and the hub has it.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from gs_ssd.diffusion.folders import WEIGHTS, ModelFolder, recognise
from gs_ssd.errors import UserError

SMALL = ["model_index.json", "*/config.json", "scheduler/*.json", "tokenizer*/*"]
BY_HAND = (
    "download it once on a machine with a connection and give its folder as diffusion.path=<folder>, "
    "or run diffusion=embedded"
)
TIMEOUT = 5.0  # seconds, for the first question to the hub


def fetch(
    repo: str,
    *,
    revision: str | None = None,
    pin: str | None = None,
    offline: bool = False,
    half: bool = False,
) -> Path:
    """The folder of a hub model, downloaded where the cache lacks it.

    `pin` is the commit to take where no revision is asked for; where the hub or the cache has another one only, that
    one is taken, with a warning.

    Raises UserError with the reason: not cached and offline, no connection, gated, no such model or revision.
    """
    from huggingface_hub import constants, errors

    revision = revision or pin
    why = None
    if (cached := _cached(repo, revision)) is not None:
        try:
            return recognise(cached).path
        except UserError as error:  # not all of it
            why = error
    if offline or constants.HF_HUB_OFFLINE:
        if revision == pin and (other := _newest_cached(repo, pin)) is not None:
            return other
        switch = "diffusion.offline=true" if offline else "HF_HUB_OFFLINE=1"
        state = f"only part of it is in the cache ({why})" if why else "it is not in the cache"
        raise UserError(
            f"can't load the diffusion model {repo}: {state} {constants.HF_HUB_CACHE}, and {switch} forbids to "
            f"download it; {BY_HAND}"
        )
    try:
        return _download(repo, revision, half)
    except UserError:
        raise
    except errors.RevisionNotFoundError as error:
        if revision == pin:
            warnings.warn(f"{repo} has no revision {pin} any more: the newest is taken", stacklevel=2)
            return fetch(repo, half=half)
        raise UserError(f"can't load the diffusion model {repo}: {_reason(error, repo, revision)}") from error
    except Exception as error:
        if revision == pin and (other := _newest_cached(repo, pin)) is not None:
            return other
        raise UserError(f"can't load the diffusion model {repo}: {_reason(error, repo, revision)}") from error


def _cached(repo: str, revision: str | None) -> Path | None:
    """The folder of the cache for a model, whole or not; None where there is none.

    Not what `snapshot_download` says: it takes a folder for incomplete that lacks files which were never needed.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, "model_index.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def _newest_cached(repo: str, pin: str | None) -> Path | None:
    """A whole model in the cache that is not the pinned one, with a warning; None where there is none."""
    folder = _cached(repo, None)
    if pin is None or folder is None:
        return None
    try:
        recognise(folder)
    except UserError:
        return None
    warnings.warn(
        f"{repo} is in the cache as {folder.name[:12]}, not as {pin[:12]}: it is taken", stacklevel=3
    )
    return folder


def _download(repo: str, revision: str | None, half: bool) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    info = HfApi().model_info(repo, revision=revision, timeout=TIMEOUT)
    names = [sibling.rfilename for sibling in info.siblings or []]
    if "model_index.json" not in names:
        raise UserError(
            f"{repo} is no model in diffusers format: it has no model_index.json; choose one that has"
        )
    folder = Path(snapshot_download(repo, revision=revision, allow_patterns=SMALL))
    files = _needed(recognise(folder, weights=False), names, half)
    return Path(snapshot_download(repo, revision=revision, allow_patterns=[*SMALL, *files]))


def _needed(model: ModelFolder, names: list[str], half: bool) -> list[str]:
    """The weight files to load: for each part one set, of one precision."""
    files: list[str] = []
    for part in model.models():
        stem = f"{part}/{WEIGHTS[model.parts[part][0]]}"
        own = [name for name in names if name.startswith((f"{stem}.", f"{stem}-")) and ".safetensors" in name]
        halves = [name for name in own if ".fp16" in name]
        fulls = [
            name
            for name in own
            if name.startswith((f"{stem}.safetensors", f"{stem}-")) and name not in halves
        ]
        chosen = (halves or fulls) if half else (fulls or halves)
        if not chosen:
            raise UserError(
                f"the hub's {model.path.name} has no weights of {part} as safetensors; choose another"
            )
        files += chosen
    return files


def _reason(error: Exception, repo: str, revision: str | None) -> str:
    """Why a download failed, with a remedy, in one line."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"it is gated: accept its licence at {constants.ENDPOINT}/{repo} and log in with `hf auth login`"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{constants.ENDPOINT} has no model of this name, or it is private; check the name"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision {revision}; leave diffusion.revision=null"
    chain: list[BaseException] = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None and below not in chain:
        chain.append(below)
    if any(isinstance(e, OSError) and e.errno == 28 for e in chain):
        return f"no space left in {constants.HF_HUB_CACHE}; free some, or set HF_HOME to another disk"
    kinds = {type(e).__name__ for e in chain}
    if kinds & {"ConnectError", "ConnectionError", "ConnectTimeout", "ReadTimeout", "ProxyError", "gaierror"}:
        return f"no connection to {constants.ENDPOINT}; connect, or {BY_HAND}"
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return f"{text}; try again, or {BY_HAND}"
