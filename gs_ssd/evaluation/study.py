"""A user study on an evaluation's runs: a page that asks, files that answer, and what they say.

`gs-ssd evaluate study=<folder of a table>` writes study.html, one self-contained page: for each scene and prompt every
pair of variants, in an order and on sides drawn anew for each reader, who downloads the choices as a file. With
`choices=[a.json,b.json]` (or a folder of them) the command reads such files into preference shares: how often a variant
was preferred where it was shown, an undecided pair counting half for both. The unit is the reader; of one reader alone,
the scene and prompt.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gs_ssd.errors import UserError
from gs_ssd.evaluation.pages import pictures
from gs_ssd.evaluation.runs import Case, Run
from gs_ssd.evaluation.statistics import estimate
from gs_ssd.evaluation.tables import table
from gs_ssd.files import atomic_path
from gs_ssd.results.image_files import load_image
from gs_ssd.results.page import picture_uri, write_page
from gs_ssd.results.video import to_uint8

VIEWS = 3  # pictures of a scene, all around
FORMAT = "gs_ssd study 1"
CHOICES = ("left", "right", "same")


def study(folder: str | Path, choices: Sequence[str] | None = None) -> str:
    """Write the page of a table's folder, or with `choices` what they say; returns a text. Raises UserError."""
    folder = Path(folder).expanduser()
    results = read_results(folder)
    if choices is None:
        path = write_study(folder, results)
        return f"study    {path}: open it in a browser; choices=[<downloaded files>] reads the answers\n"
    text = shares_text(read_choices(choices, identity(results)), results)
    with atomic_path(folder / "study.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text + f"\nwritten to {folder / 'study.md'}"


def read_results(folder: Path) -> dict[str, Any]:
    """The results.json of an evaluation; raises UserError where there is none, or nothing to compare."""
    path = folder / "results.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        rows = results["rows"]
        places = [row["folder"] for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is no folder of a table of this version ({path.name}); run gs-ssd evaluate first"
        ) from error
    if len({row["variant"] for row in rows}) < 2:
        raise UserError(f"{folder}: {len(places)} run(s) of one variant; a study compares two at least")
    return results


def identity(results: Mapping[str, Any]) -> str:
    """What tells one table's study from another's: a digest of the runs that are compared."""
    keys = ("variant", "scene", "prompt", "seed", "rate", "folder")
    known = sorted(json.dumps([row.get(key) for key in keys]) for row in results["rows"])
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]


def shown_rows(results: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """Per scene and prompt the row of each variant; of several seeds the first."""
    cases: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in results["rows"]:
        if row["share"] < 1:
            continue
        cases.setdefault((row["scene"], row["prompt"]), {}).setdefault(row["variant"], row)
    return cases


def write_study(folder: Path, results: Mapping[str, Any]) -> Path:
    """study.html in `folder`."""
    cases = []
    for (scene, prompt), rows in shown_rows(results).items():
        shots = {variant: _shot(folder / row["folder"], row) for variant, row in rows.items()}
        first = next(iter(shots.values()))
        cases.append(
            {
                "scene": scene,
                "prompt": prompt,
                "asked": first["asked"],
                "source": first["source"],
                "edits": {variant: shot["edit"] for variant, shot in shots.items()},
            }
        )
    pairs = [
        {"case": index, "variants": list(pair)}
        for index, case in enumerate(cases)
        for pair in itertools.combinations(case["edits"], 2)
    ]
    content = {"format": FORMAT, "table": identity(results), "cases": cases, "pairs": pairs}
    path = folder / "study.html"
    write_page("study.html", path, title=results["experiment"]["title"], study=content, count=len(pairs))
    return path


def _shot(place: Path, row: Mapping[str, Any]) -> dict[str, str]:
    """Source and edit of a run as pictures that the page holds, and what was asked for."""
    try:
        config = json.loads((place / "run.json").read_text(encoding="utf-8"))["config"]
        if (place / "after.png").is_file():
            before, after = (load_image(place / name)[0] for name in ("before.png", "after.png"))
        else:
            run = Run(row["variant"], row["rate"], Case(row["scene"], row["prompt"]), row["seed"], config)
            run.config["output_dir"] = str(place)  # the folder may have moved since
            before, after = (
                torch.cat(list(pictures(run, of=of, count=VIEWS)), dim=1) for of in ("source", "edit")
            )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{place}: the run's pictures can't be shown ({error}); run the evaluation again"
        ) from error
    shown = {"source": before, "edit": after}
    uris = {name: picture_uri(to_uint8(picture), side=640) for name, picture in shown.items()}
    return uris | {"asked": str(config["prompt"]["target"])}


def read_choices(files: Sequence[str], table: str) -> list[dict[str, Any]]:
    """The answers, each with its reader; raises UserError for files of another table, or that hold none."""
    paths = [
        path
        for name in files
        for path in (
            sorted(Path(name).expanduser().glob("*.json"))
            if Path(name).expanduser().is_dir()
            else [Path(name).expanduser()]
        )
    ]
    if not paths:
        raise UserError(f"choices={list(files)}: no .json files there; the study's page downloads them")
    answers: list[dict[str, Any]] = []
    for path in paths:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise KeyError("format")
            own = [{**answer, "reader": str(path)} for answer in content["answers"]]
            whole = all(
                answer["choice"] in CHOICES and answer["left"] != answer["right"] and "case" in answer
                for answer in own
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no file of choices that a study's page downloads") from error
        if content.get("table") != table:
            raise UserError(
                f"{path} is a study file of another table ({content.get('table')}, this is {table})"
            )
        if not own or not whole:
            raise UserError(f"{path} holds no whole answers; download it again when the pairs are judged")
        answers += own
    return answers


def shares(answers: Sequence[Mapping[str, Any]]) -> dict[str, dict[tuple[Any, Any], float]]:
    """Per variant the share of the pairs in which it was preferred, by unit: the reader, or one reader's case."""
    readers = {answer["reader"] for answer in answers}
    won: dict[str, dict[tuple[Any, Any], list[float]]] = {}
    for answer in answers:
        unit = (answer["reader"], 0) if len(readers) > 1 else (answer["case"], 0)
        left = {"left": 1.0, "right": 0.0, "same": 0.5}[answer["choice"]]
        for variant, value in ((answer["left"], left), (answer["right"], 1 - left)):
            won.setdefault(variant, {}).setdefault(unit, []).append(value)
    return {
        variant: {unit: sum(values) / len(values) for unit, values in own.items()}
        for variant, own in won.items()
    }


def shares_text(answers: Sequence[Mapping[str, Any]], results: Mapping[str, Any]) -> str:
    """The table of shares."""
    found, readers = shares(answers), len({answer["reader"] for answer in answers})
    order = [v for v in dict.fromkeys(row["variant"] for row in results["rows"]) if v in found]
    lines = []
    for variant in order:
        value = estimate(found[variant])
        assert value is not None
        error = "" if value.error is None else f" ± {100 * value.error:.1f}"
        seen = sum(variant in (answer["left"], answer["right"]) for answer in answers)
        lines.append([variant, f"{100 * value.mean:.1f}{error}", str(seen)])
    unit = "readers" if readers > 1 else "scenes and prompts of one reader"
    head = f"{len(answers)} answers of {readers} reader(s); ± is the standard error over the {unit}"
    return "\n".join([f"# Study: {results['experiment']['title']}", "", f"{head}.", ""]) + "\n".join(
        ["", *table(["", "preferred, %", "pairs"], lines), ""]
    )
