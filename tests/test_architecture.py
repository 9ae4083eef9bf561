"""The import arrows of the design, as a test: rooms may only import what lies before them."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gs_ssd"

BASE = {"checks", "errors", "files"}
CORE = {*BASE, "scene", "render", "diffusion", "guidance", "edit"}
MAY_IMPORT = {
    "scene": {*BASE, "scene"},
    "render": {*BASE, "scene", "render"},
    "diffusion": {*BASE, "assets", "diffusion"},
    "guidance": {*BASE, "diffusion", "guidance"},
    "metrics": {*BASE, "diffusion", "metrics"},
    "edit": CORE,
    "results": {*CORE, "metrics", "results"},
    "session": {*CORE, "assets", "metrics", "results", "session"},
    "evaluation": {*CORE, "assets", "metrics", "results", "session", "cli", "evaluation"},
    "cli": {*CORE, "assets", "metrics", "results", "session", "evaluation", "cli"},
}
GSPLAT = {"render/cuda.py", "edit/densify.py"}
HYDRA = {"cli", "evaluation"}
DESIGNATED = {"diffusers": {"diffusion"}, "hydra": HYDRA, "omegaconf": HYDRA}


def imported_modules(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
    return modules


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows(path):
    room = path.relative_to(PACKAGE).parts[0]
    for module in imported_modules(path):
        top, *rest = module.split(".")
        if top == "gs_ssd" and rest:
            assert rest[0] in MAY_IMPORT[room], f"{room} must not import {module}"
        if top == "gsplat":
            assert path.relative_to(PACKAGE).as_posix() in GSPLAT, f"{path.name} must not import {module}"
        if top in DESIGNATED:
            assert room in DESIGNATED[top], f"{room} must not import {module}"
