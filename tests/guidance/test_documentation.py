"""The example of docs/add-a-guidance.md is a working method."""

from __future__ import annotations

import re

import pytest
from torch.testing import assert_close

from gs_ssd.assets import ROOT
from gs_ssd.guidance import DDS


@pytest.fixture(scope="module")
def examples() -> dict:
    """Everything the page's Python blocks define."""
    page = (ROOT / "docs" / "add-a-guidance.md").read_text()
    names: dict = {"DDS": DDS, "assert_close": assert_close}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    return names


@pytest.mark.parametrize(
    "test", ["test_without_its_anchor_it_is_dds", "test_the_anchor_pulls_back_to_the_source"]
)
def test_the_example_passes_its_own_tests(examples, case, test):
    examples[test](case)
