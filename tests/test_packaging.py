"""What is imported is declared, with bounds; every dependency has its licence named; one version everywhere."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache

import pytest
import yaml

import gs_ssd
from gs_ssd.assets import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Where a distribution's name is not that of its module.
DISTRIBUTIONS = {"PIL": "pillow", "hydra": "hydra-core", "yaml": "pyyaml"}
LOCAL = {"gs_ssd", "scripts", "tests", "train"}


def required(group: str | None = None) -> dict[str, str]:
    """The declared requirements, bounds by name."""
    declared = PROJECT["dependencies"] if group is None else PROJECT["optional-dependencies"][group]
    found = [re.match(r"([\w.-]+)(.*)", requirement) for requirement in declared]
    return {match[1].lower().replace("_", "-"): match[2] for match in found if match}


def extras() -> dict[str, str]:
    return {
        name: bounds for group in PROJECT["optional-dependencies"] for name, bounds in required(group).items()
    }


@cache
def imported(*folders: str) -> dict[str, str]:
    """The distributions that the code names in an import, with one file that does."""
    found: dict[str, str] = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module or ""]
                for name in names:
                    top = name.partition(".")[0]
                    if top not in sys.stdlib_module_names and top not in LOCAL:
                        found[DISTRIBUTIONS.get(top, top).lower().replace("_", "-")] = str(
                            path.relative_to(ROOT)
                        )
    return found


def test_what_the_package_imports_is_declared():
    declared = required().keys() | {
        name for group in PROJECT["optional-dependencies"] if group != "test" for name in required(group)
    }
    assert {name: file for name, file in imported("gs_ssd").items() if name not in declared} == {}


def test_what_is_declared_is_imported():
    used_by_others = {"accelerate"}  # diffusers and transformers look for it themselves
    assert required().keys() - imported("gs_ssd").keys() == used_by_others


def test_what_the_tests_import_is_declared():
    declared = required().keys() | extras().keys()
    assert {name: file for name, file in imported("tests").items() if name not in declared} == {}


def test_a_major_release_of_a_dependency_is_tried_before_it_is_let_in():
    bounds = required() | extras()
    assert [name for name, bound in bounds.items() if "<" not in bound] == []


def test_every_dependency_has_its_licence_named():
    rows = re.findall(
        r"^\| ([\w-]+) \| ", (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert set(rows) - {"package"} == required().keys() | extras().keys()


@pytest.mark.parametrize("page", ["CITATION.cff", "CHANGELOG.md"])
def test_the_version_is_the_same_everywhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    stated = (
        str(yaml.safe_load(text)["version"])
        if page.endswith(".cff")
        else re.search(r"^## ([\d.]+)", text, re.M)[1]
    )
    assert stated == gs_ssd.__version__


def test_the_workflow_runs_what_the_project_supports():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    oldest, beyond = re.findall(r"3\.(\d+)", PROJECT["requires-python"])
    versions = [f"3.{oldest}", f"3.{int(beyond) - 1}"]
    assert all(job["strategy"]["matrix"]["python"] == versions for job in workflow["jobs"].values())


def test_links_between_the_pages_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []
