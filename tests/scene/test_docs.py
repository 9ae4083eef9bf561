"""The pages on formats and selections say what is true, and their code runs."""

import re
from pathlib import Path

import pytest

from gs_ssd.assets import CONFIGS
from gs_ssd.scene import save_gaussians
from gs_ssd.scene.formats import FORMATS
from tests.synthetic import random_gaussians

DOCS = Path(__file__).parents[2] / "docs"


def test_every_format_is_in_the_table():
    table = (DOCS / "formats.md").read_text()
    assert all(f"`{suffix}`" in table for suffix in FORMATS)


def test_every_selection_is_in_the_table():
    table = (DOCS / "selections.md").read_text()
    assert all(f"`{path.stem}`" in table for path in (CONFIGS / "mask").glob("*.yaml"))


@pytest.mark.slow
def test_the_example_of_selections_runs(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", (DOCS / "selections.md").read_text(), re.DOTALL)
    save_gaussians(random_gaussians(), tmp_path / "bust.ply")
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(example, scope)
    assert scope["pictures"].shape == (4, 256, 256, 3) and scope["chosen"].any()
