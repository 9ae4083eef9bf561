"""The import arrows of the design, as a test: rooms may only import what lies before them."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gs_ssd"

MAY_IMPORT = {
    "scene": {"errors", "files", "scene"},
    "render": {"errors", "scene", "render"},
    "diffusion": {"errors", "diffusion"},
    "guidance": {"errors", "diffusion", "guidance"},
    "metrics": {"errors", "metrics", "diffusion"},
    "benchmarks": {
        *("errors", "files", "paths", "diffusion", "guidance"),
        *("image2d", "metrics", "output", "benchmarks"),
    },
    "edit": {"errors", "scene", "render", "diffusion", "guidance", "edit"},
    "image2d": {"errors", "files", "diffusion", "guidance", "image2d", "output"},
    "output": {"errors", "files", "scene", "render", "edit", "output", "metrics"},
}
DESIGNATED = {"gsplat": {"render", "edit"}, "diffusers": {"diffusion"}, "hydra": set(), "omegaconf": set()}


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
        if top in DESIGNATED:
            assert room in DESIGNATED[top], f"{room} must not import {module}"
