"""What importing costs, by what it loads: seconds depend on the machine, modules don't."""

import subprocess
import sys

import pytest

from tests.waiting import PATIENCE

HEAVY = {"diffusers", "transformers", "peft", "hydra", "omegaconf", "gsplat"}


def loaded(statement: str) -> set[str]:
    """Top-level modules in a fresh process after `statement`."""
    code = f"{statement}\nimport sys\nprint(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_package_alone_loads_nothing():
    assert not loaded("import gs_ssd; gs_ssd.__version__") & (HEAVY | {"torch", "numpy"})


@pytest.mark.slow
@pytest.mark.parametrize("module", ["gs_ssd.guidance", "gs_ssd.scene.scene"])
def test_a_room_loads_torch_but_no_model_library(module):
    assert not loaded(f"import {module}") & HEAVY


def test_a_mistyped_word_is_answered_before_torch_is_loaded():
    code = """
from gs_ssd.session.config import compose
try:
    compose(['stepz=3'])
except ValueError as error:
    assert 'did you mean steps' in str(error)
else:
    raise SystemExit(1)
"""
    assert "torch" not in loaded(code)
