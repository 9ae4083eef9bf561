"""The sentences of an edit, and what is checked about them before anything is computed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.errors import UserError

MAX_CHARACTERS = 1000


@dataclass(frozen=True)
class Prompts:
    """What the scene shows now, what it should show, and what it should not.

    Attributes:
        source: None where something is made from nothing.
        target: required.
        negative: None takes the method's own.
    """

    source: str | None
    target: str
    negative: str | None = None

    def check(self, prior: DiffusionPrior) -> None:
        """Raise UserError for sentences that can't work; warn of those that may not."""
        found = (
            check_target(prior, self.target)
            if self.source is None
            else check_prompts(prior, source=self.source, target=self.target)
        )
        if self.negative is not None:
            _check_text("prompt.negative", self.negative)
        for warning in found:
            warnings.warn(warning, stacklevel=3)


def check_prompts(prior: DiffusionPrior, *, source: str | None, target: str | None) -> list[str]:
    """Raise UserError for prompts that can't work; return warnings for those that may not."""
    warnings = check_target(prior, target)
    if source is None or not source.strip():
        raise UserError(
            'prompt.source is missing; say what the scene shows now, such as prompt.source="a photo of a man"'
        )
    if source.strip().lower() == (target or "").strip().lower():
        raise UserError(
            f"prompt.target equals prompt.source ({source!r}), so there is nothing to edit; change one"
        )
    return _check_sentence(prior, "prompt.source", source) + warnings


def check_target(prior: DiffusionPrior, target: str | None) -> list[str]:
    """The same for a target alone."""
    if target is None or not target.strip():
        raise UserError(
            'prompt.target is empty; say what the scene should become, such as prompt.target="a clown"'
        )
    return _check_sentence(prior, "prompt.target", target)


def _check_sentence(prior: DiffusionPrior, name: str, prompt: str) -> list[str]:
    _check_text(name, prompt)
    warning = _unknown_words_warning(prior, prompt)
    return [warning] if warning else []


def _check_text(name: str, prompt: str) -> None:
    if len(prompt) > MAX_CHARACTERS:
        raise UserError(
            f"{name} has {len(prompt.split())} words; the text encoder reads a sentence, not a page: shorten it"
        )
    try:
        prompt.encode()
    except UnicodeEncodeError as error:  # Python's stand-ins for bytes that are no UTF-8
        raise UserError(f"{name}={prompt!a} has bytes that are no UTF-8 text; type it in UTF-8") from error


def _unknown_words_warning(prior: DiffusionPrior, prompt: str) -> str | None:
    unknown = prior.unknown_words(prompt)
    if not unknown:
        return None
    near = sorted({known for word in unknown for known in prior.nearest_words(word)})
    nearest = f" (nearest known: {', '.join(near)})" if near else ""
    return (
        f"the {prior.name} prior doesn't know: {', '.join(unknown)}{nearest}; "
        "`gs-ssd prompts` lists what it knows, diffusion=sd21 knows any words"
    )
