"""The import arrows of the design, as a test: rooms may only import what lies before them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gs_ssd"

BASE = {"__init__", "errors", "files", "checks", "assets", "samples", "ranks", "devices"}
CORE = {*BASE, "scene", "render", "diffusion", "guidance", "editors", "edit"}
SESSION = {*CORE, "metrics", "results", "session"}
MAY_IMPORT = {
    "errors": set(),
    "assets": {"errors"},
    "checks": {"errors"},
    "files": {"errors"},
    "samples": set(),
    "ranks": {"errors", "devices"},
    "devices": {"errors"},
    "__init__": {"errors", "scene", "diffusion", "session", "results"},  # lazily: the public names
    "scene": {*BASE, "scene"},
    "render": {*BASE, "scene", "render"},
    "diffusion": {*BASE, "diffusion"},
    "guidance": {*BASE, "diffusion", "guidance"},
    "editors": {*BASE, "diffusion", "editors"},
    "metrics": {*BASE, "diffusion", "metrics"},
    "edit": CORE,
    "results": {*CORE, "metrics", "results"},
    "session": SESSION,
    "evaluation": {*SESSION, "evaluation"},
    "studio": {*SESSION, "studio"},
    "cli": {*SESSION, "evaluation", "studio", "cli"},
}
# Who may import what is heavy, or would tie the package to one tool.
HYDRA = {"session/config.py", "cli", "evaluation"}
DESIGNATED = {
    "gsplat": {"render", "edit"},
    "diffusers": {"diffusion"},
    "hydra": HYDRA,
    "omegaconf": HYDRA,
    "viser": {"studio"},
}


def imported_modules(path: Path, package: Path = PACKAGE) -> set[str]:
    """Every module that a file names in an import, absolute; names imported from the package itself count too."""
    modules: set[str] = set()
    here = ("gs_ssd", *path.relative_to(package).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            stem = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (stem, node.module) if part)
            modules |= {f"{module}.{alias.name}" for alias in node.names} if module == "gs_ssd" else {module}
    return modules


FILES = sorted(PACKAGE.rglob("*.py"))


def forbidden(path: Path) -> Iterator[str]:
    """What a file imports and must not."""
    file = path.relative_to(PACKAGE)
    room = file.parts[0].removesuffix(".py")
    for module in imported_modules(path):
        top, *rest = module.split(".")
        if top == "gs_ssd" and rest:
            target = "__init__" if rest[0].startswith("__") else rest[0]
            if target not in MAY_IMPORT[room]:
                yield f"{file}: {room} must not import {module}"
        if top in DESIGNATED and not {room, file.as_posix()} & DESIGNATED[top]:
            yield f"{file} must not import {module}"


def test_arrows():
    assert [line for path in FILES for line in forbidden(path)] == []


def test_the_arrow_test_sees_relative_imports_and_names(tmp_path):
    (tmp_path / "room").mkdir()
    file = tmp_path / "room" / "a.py"
    file.write_text("from ..b import c\nfrom . import d\nfrom gs_ssd import assets\nimport gs_ssd.e\n")
    assert imported_modules(file, tmp_path) == {"gs_ssd.b", "gs_ssd.room", "gs_ssd.assets", "gs_ssd.e"}


UNIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


def of_one_system(path: Path) -> Iterator[str]:
    """Modules of Unix alone that a file imports at the start, and calls that read text in the system's encoding."""
    tree, file = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(PACKAGE)
    at_start = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    named = {alias.name for node in at_start if isinstance(node, ast.Import) for alias in node.names}
    named |= {str(node.module) for node in at_start if isinstance(node, ast.ImportFrom)}
    yield from (f"{file}: {module}" for module in named & UNIX)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    yield from (f"{file}:{call.lineno}" for call in calls if is_text_of_the_systems_encoding(call))


def test_every_system_can_import_and_read():
    assert [line for path in FILES for line in of_one_system(path)] == []


def is_text_of_the_systems_encoding(call: ast.Call) -> bool:
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in named:
        return False
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("read_text", "write_text"):
        return True
    modes = [*call.args[1:2], *[named[name] for name in ("mode",) if name in named]]
    binary = any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)
    builtin = isinstance(call.func, ast.Name) and call.func.id in ("open", "fdopen")
    piped = isinstance(named.get("text"), ast.Constant)
    return (builtin and not binary) or piped


@pytest.mark.parametrize(
    "code, found",
    [
        ("p.read_text()", True),
        ("open('a')", True),
        ("open('a', 'w')", True),
        ("subprocess.run(a, text=True)", True),
        ("p.read_text(encoding='utf-8')", False),
        ("open('a', 'rb')", False),
        ("open('a', encoding='utf-8')", False),
        ("Image.open('a')", False),
        ("f(text=given)", False),
    ],
)
def test_the_encoding_test_sees_what_it_looks_for(code, found):
    assert is_text_of_the_systems_encoding(ast.parse(code).body[0].value) == found


def longest_function(path: Path) -> tuple[int, str]:
    """(lines, name) of the longest function body, without its docstring."""
    found = [(0, "")]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body:
                found.append(((body[-1].end_lineno or 0) - body[0].lineno + 1, node.name))
    return max(found)


def test_functions_fit_a_screen():
    files = [
        p for p in FILES if p.relative_to(PACKAGE).parts[0] != "render"
    ]  # kernels are long for numba's sake
    longest = {str(path.relative_to(PACKAGE)): longest_function(path) for path in files}
    assert {file: found for file, found in longest.items() if found[0] > 60} == {}
