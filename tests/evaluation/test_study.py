"""The user study of a table: its page, the files it saves, and what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from gs_ssd.cli.evaluate import main
from gs_ssd.errors import UserError
from gs_ssd.evaluation.study import CHOICES, FORMAT, identity, read_choices, read_results, shares, study
from gs_ssd.results.image_files import save_image

VARIANTS = ("ssd", "dds", "in2n")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A finished table of three variants on two pictures."""
    rows = []
    for index, (variant, key) in enumerate((v, k) for v in VARIANTS for k in ("one", "two")):
        place = tmp_path / "table" / "runs" / variant / key
        for name in ("before", "after"):
            save_image(
                torch.rand(16, 16, 3, generator=torch.Generator().manual_seed(index)), place / f"{name}.png"
            )
        config = {"prompt": {"target": f"a </script> clown {key}"}}
        (place / "run.json").write_text(json.dumps({"config": config}))
        where = str(place.relative_to(tmp_path / "table"))
        rows.append(
            {
                "variant": variant,
                "scene": key,
                "prompt": "p",
                "seed": 0,
                "rate": 1.0,
                "share": 1.0,
                "folder": where,
            }
        )
    (tmp_path / "table" / "results.json").write_text(json.dumps({"rows": rows, "experiment": {"title": "T"}}))
    return tmp_path / "table"


def saved(folder: Path, name: str, picks: list[tuple[str, str, str, str]], table: str | None = None) -> str:
    """A file as the page downloads it, of (case, left, right, choice)."""
    answers = [dict(zip(("case", "left", "right", "choice"), pick)) for pick in picks]
    content = {"format": FORMAT, "table": table or identity(read_results(folder)), "answers": answers}
    path = folder.parent / name
    path.write_text(json.dumps(content))
    return str(path)


def test_the_page_holds_every_pair_and_needs_nothing_else(folder):
    assert "study.html" in study(folder)
    page = (folder / "study.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!\{|data:)""", page) and "http" not in page
    data = re.search(r'<script id="study" type="application/json">(.*?)</script>', page, re.DOTALL)
    content = json.loads(data[1])
    assert content["format"] == FORMAT and content["table"] == identity(read_results(folder))
    assert len(content["cases"]) == 2 and len(content["pairs"]) == 2 * 3
    assert content["cases"][0]["asked"] == "a </script> clown one"
    for case in content["cases"]:
        assert set(case["edits"]) == set(VARIANTS)
        assert all(uri.startswith("data:image/webp") for uri in [case["source"], *case["edits"].values()])
    assert all(f'"{choice}"' in page for choice in CHOICES)


def test_preferences_are_shares_of_pairs_with_errors_over_the_readers(folder, capsys):
    first = saved(folder, "a.json", [("one, p", "ssd", "dds", "left"), ("two, p", "dds", "ssd", "right")])
    second = saved(folder, "b.json", [("one, p", "ssd", "dds", "same"), ("two, p", "in2n", "ssd", "left")])
    found = shares(read_choices([first, second], identity(read_results(folder))))
    assert found["ssd"] == {(first, 0): 1.0, (second, 0): 0.25}
    assert found["dds"] == {(first, 0): 0.0, (second, 0): 0.5} and found["in2n"] == {(second, 0): 1.0}
    assert main([f"study={folder}", f"choices=[{first},{second}]"]) == 0
    out = capsys.readouterr().out
    assert "4 answers of 2 reader(s)" in out and "| ssd | 62.5 ± 37.5 | 4 |" in out
    assert (folder / "study.md").read_text() in out
    alone = shares(read_choices([first], identity(read_results(folder))))
    assert set(alone["ssd"]) == {("one, p", 0), ("two, p", 0)}  # of one reader, the cases are the units


def test_bad_files_are_one_line(folder, tmp_path, capsys):
    other = saved(folder, "c.json", [("one, p", "ssd", "dds", "left")], table="0123456789abcdef")
    assert main([f"study={folder}", f"choices={other}"]) == 2
    assert "c.json is a study file of another table (0123456789abcdef, this is" in capsys.readouterr().err
    (tmp_path / "d.json").write_text("{}")
    with pytest.raises(UserError, match=r"d\.json is no file of choices"):
        study(folder, [str(tmp_path / "d.json")])
    wrong = saved(folder, "e.json", [("one, p", "ssd", "dds", "both")])
    with pytest.raises(UserError, match="holds no whole answers"):
        study(folder, [wrong])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \.json files there"):
        study(folder, [str(tmp_path / "empty")])
    with pytest.raises(UserError, match="no folder of a table of this version"):
        study(tmp_path / "empty")
    assert main([f"study={folder}", "jobs=2"]) == 2
    assert "jobs=2 is of no use with study=" in capsys.readouterr().err


def test_another_table_has_another_identity(folder):
    before = identity(read_results(folder))
    results = json.loads((folder / "results.json").read_text())
    results["rows"] = results["rows"][:-1]
    (folder / "results.json").write_text(json.dumps(results))
    assert identity(read_results(folder)) != before
    results["rows"] = results["rows"][:2]
    (folder / "results.json").write_text(json.dumps(results))
    with pytest.raises(UserError, match="compares two at least"):
        study(folder)
