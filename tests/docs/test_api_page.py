"""docs/api.md says what the docstrings say."""

from __future__ import annotations

import gs_ssd
from scripts.make_api_page import PAGE, page


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python scripts/make_api_page.py"


def test_every_public_name_has_an_entry():
    text = PAGE.read_text(encoding="utf-8")
    names = [name for name in gs_ssd.__all__ if name != "__version__"]
    assert [name for name in names if f"### `{name}`\n" not in text] == []
