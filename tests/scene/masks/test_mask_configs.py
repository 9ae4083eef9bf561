"""configs/mask: each choice names its class and exactly its arguments, with its defaults."""

import importlib
import inspect

import pytest
import yaml

from gs_ssd.assets import CONFIGS

FILES = sorted((CONFIGS / "mask").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_choice_fits_its_class(path):
    values = yaml.safe_load(path.read_text())
    module, name = values.pop("_target_").rsplit(".", 1)
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    assert set(values) == set(signature.parameters)
    for key, parameter in signature.parameters.items():
        if parameter.default is inspect.Parameter.empty:
            assert values[key] in ("???", "${scene.parts}")
        else:
            default = parameter.default
            assert values[key] == (list(default) if isinstance(default, tuple) else default)


def test_the_choices_are_there():
    wanted = {"all", "box", "file", "flood", "halfspace", "parts", "pictures", "prior", "sphere", "text"}
    combined = {"union", "intersection", "difference", "invert", "grow", "shrink"}
    assert {path.stem for path in FILES} == wanted | combined
