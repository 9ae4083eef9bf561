"""An object's settings as plain data, and back: what a checkpoint says of its guidance, its rates and the rest.

A component keeps every argument of its constructor as an attribute of the same name, so that its settings can be read
off it. Only classes of this package are made again from such data: a checkpoint may come from a stranger.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import torch

from gs_ssd.errors import UserError

CLASS = "_class"


def describe(component: Any) -> Any:
    """JSON-ready settings of a component: numbers, texts, lists and dicts of them."""
    if isinstance(component, dict):
        return {str(name): describe(value) for name, value in component.items()}
    if isinstance(component, list | tuple):
        return [describe(value) for value in component]
    if component is None or isinstance(component, bool | int | float | str):
        return component
    if isinstance(component, torch.Tensor):
        return component.tolist()
    arguments = [p for p in inspect.signature(type(component)).parameters if hasattr(component, p)]
    settings = {name: describe(getattr(component, name)) for name in arguments}
    kind = type(component)
    return {CLASS: f"{kind.__module__}.{kind.__qualname__}", **settings}


def rebuild(description: Any) -> Any:
    """The component that `describe` described; raises UserError for a class that isn't this package's."""
    if isinstance(description, list):
        return [rebuild(value) for value in description]
    if not isinstance(description, dict):
        return description
    settings = {name: rebuild(value) for name, value in description.items() if name != CLASS}
    if CLASS not in description:
        return settings
    name = str(description[CLASS])
    module, _, attribute = name.rpartition(".")
    if module.partition(".")[0] != "gs_ssd":
        raise UserError(f"{name} is not a class of gs_ssd; make it again and give it to resume")
    try:
        kind = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"this version of gs_ssd has no {name}; resume with the version that wrote it"
        ) from error
    if not isinstance(kind, type):
        raise UserError(f"{name} is not a class; the checkpoint is damaged")
    return kind(**settings)
