"""docs/library.md, run as it stands, with fewer steps."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


@pytest.mark.slow
def test_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    code = "\n".join(blocks).replace("num_steps=300", "num_steps=4")
    for shown, short in (("== 150", "== 2"), ("% 20", "% 1"), ("== 60", "== 2")):
        assert shown in code
        code = code.replace(shown, short)
    exec(compile(code, PAGE.name, "exec"), {})
    assert "resumed at step 2" in capsys.readouterr().out
    assert (tmp_path / "half.ply").is_file() and (tmp_path / "out" / "edited.ply").is_file()
