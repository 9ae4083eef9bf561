"""docs/api.md from the docstrings: `python scripts/make_api_page.py`. A test asks that it is up to date."""

from __future__ import annotations

import inspect
import re
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from gs_ssd.assets import ROOT

PAGE = ROOT / "docs" / "api.md"
WIDTH = 90  # of a signature on one line
ROOMS = {
    "gs_ssd": "The session layer",
    "gs_ssd.guidance": "Methods",
    "gs_ssd.diffusion.timesteps": "Timestep rules",
    "gs_ssd.scene.masks": "Selections",
}
HEAD = """# API reference

Built from the docstrings by `python scripts/make_api_page.py`; don't edit it by hand. Tensors are `[..., N, D]`,
pictures `[..., H, W, 3]` in [0, 1]; every mistake that a caller can mend is a `gs_ssd.UserError`.
"""


def page() -> str:
    """The whole page."""
    sections = [section(name, title) for name, title in ROOMS.items()]
    return "\n".join([HEAD, *sections]).rstrip() + "\n"


def section(module_name: str, title: str) -> str:
    """The public names of a module, in their own order."""
    module = import_module(module_name)
    names = getattr(module, "__all__", None) or own_names(module)
    entries = [entry(name, getattr(module, name)) for name in sorted(names, key=str.lower)]
    return "\n".join(
        [f"## {title}: `{module_name}`\n", fenced(inspect.getdoc(module)), *filter(None, entries)]
    )


def own_names(module: object) -> list[str]:
    """The public classes and functions that a module defines itself."""
    here = vars(module)
    return [
        name
        for name, value in here.items()
        if not name.startswith("_") and getattr(value, "__module__", None) == here["__name__"]
    ]


def entry(name: str, value: object) -> str:
    """A heading, the signature, the docstring; of a class also its public methods and properties."""
    if not callable(value):
        return ""
    if inspect.isclass(value) and issubclass(value, Exception):
        return f"### `{name}`\n\n" + fenced(inspect.getdoc(value))
    lines = [f"### `{name}`\n", fenced(f"{name}{signature(value)}", "python"), fenced(inspect.getdoc(value))]
    if inspect.isclass(value):
        lines += [member(name, method, found) for method, found in vars(value).items()]
    return "\n".join(line for line in lines if line)


def member(owner: str, name: str, value: object) -> str:
    """A public method, class method or property with a docstring; nothing for the rest."""
    if name.startswith("_"):
        return ""
    if isinstance(value, property):
        call, said = "", value.__doc__
    elif isinstance(value, classmethod | staticmethod) or inspect.isfunction(value):
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        call, said = signature(function), function.__doc__
    else:
        return ""
    if not said:
        return ""
    return (
        f"#### `{owner}.{name}`\n\n"
        + fenced(f"{name}{call}", "python")
        + "\n"
        + fenced(inspect.cleandoc(said))
    )


def signature(value: object) -> str:
    """As it is written, apart from stand-ins for a default."""
    try:
        found = inspect.signature(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    kept = [p for p in found.parameters.values() if p.name not in ("self", "cls")]
    text = re.sub(r"<object object at 0x[0-9a-f]+>", "...", str(found.replace(parameters=kept)))
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)  # annotations are strings everywhere
    return text if len(text) < WIDTH else "(\n    " + ",\n    ".join(arguments_of(text))


def arguments_of(text: str) -> list[str]:
    """The arguments of "(a, b: dict[x, y] = 1) -> c", and what follows them behind the last, split at outer commas."""
    inner, depth, start = text[1:], 0, 0
    found = []
    for i, letter in enumerate(inner):
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            found.append(inner[start:i].strip())
            start = i + 1
        if depth < 0:
            return [*found, inner[start:i].strip() + ",\n" + inner[i:]]
    return found


def fenced(text: str | None, language: str = "text") -> str:
    return f"```{language}\n{text.rstrip()}\n```\n" if text else ""


if __name__ == "__main__":
    written = page()
    PAGE.write_text(written, encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {written.count('### `')} entries")
