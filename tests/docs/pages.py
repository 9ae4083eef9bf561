"""What the pages of docs/ say in code."""

from __future__ import annotations

import re
from typing import Any

from gs_ssd.assets import ROOT


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of docs/<page> in a language."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run(page: str, **given: Any) -> dict[str, Any]:
    """Everything that the page's Python blocks define, after the names they are given."""
    names: dict[str, Any] = dict(given)
    for block in blocks(page, "python"):
        exec(block, names)
    return names
