"""What a machine with an NVIDIA GPU hears when gsplat's kernels can't be compiled, before anything is downloaded."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

from gs_ssd import render
from gs_ssd.errors import UserError


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A machine on which gsplat was never compiled."""
    monkeypatch.setattr(cpp_extension, "_get_build_directory", lambda name, verbose: str(tmp_path))
    monkeypatch.delitem(sys.modules, "gsplat.cuda._backend", raising=False)


def test_without_a_compiler_one_line_says_what_to_install(fresh, monkeypatch, capfd):
    monkeypatch.setattr(cpp_extension, "_find_cuda_home", lambda: None)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert not render.kernels_are_compiled("cuda")
    with pytest.raises(UserError, match=r"needs nvcc .* environment\.yml .* device=cpu") as caught:
        render.compile_kernels("cuda:0")
    assert "\n" not in str(caught.value)
    assert not "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (
            RuntimeError(
                "Error building extension 'gsplat_cuda': [1/29] nvcc\na.cu(3): error: no such\nninja"
            ),
            "no such",
        ),
        (RuntimeError("Ninja is required to load C++ extensions"), "Ninja is required"),
        (ImportError("libcudart.so.13: cannot open shared object file"), "libcudart"),
    ],
)
def test_a_failing_compiler_is_named_in_one_line(fresh, monkeypatch, tmp_path, failure, message):
    class Backend(types.ModuleType):
        def __getattr__(self, name):
            raise failure

    (tmp_path / "gsplat_cuda.so").touch()
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", Backend("gsplat.cuda._backend"))
    assert render.kernels_are_compiled("cuda")
    with pytest.raises(UserError, match=message) as caught:
        render.compile_kernels("cuda")
    assert "\n" not in str(caught.value)


def test_a_toolkit_that_gsplat_does_not_find_is_named(fresh, monkeypatch, tmp_path):
    (tmp_path / "gsplat_cuda.so").touch()
    backend = types.ModuleType("gsplat.cuda._backend")
    backend._C = None
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", backend)
    with pytest.raises(UserError, match="CUDA_HOME"):
        render.compile_kernels("cuda")


def test_kernels_are_compiled_before_a_model_is_loaded_and_before_the_first_step(fresh, monkeypatch):
    """Without a compiler nothing is downloaded in vain, and with one no step's time holds the minutes it takes."""
    from gs_ssd.session.config import compose, scene_edit

    monkeypatch.setattr(cpp_extension, "_find_cuda_home", lambda: None)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    card = types.SimpleNamespace(total_memory=80e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    loaded = []
    with pytest.raises(UserError, match="needs nvcc"):
        scene_edit(
            compose(["scene=face", "prompt=clown", "diffusion=sd21", "device=cuda"]),
            load=lambda: loaded.append("a model"),
        )
    assert loaded == []


def test_only_one_file_of_the_room_imports_gsplat():
    room = Path(render.__file__).parent
    importing = r"^\s*(from|import) gsplat"
    assert [f.name for f in room.glob("*.py") if re.search(importing, f.read_text(), re.MULTILINE)] == [
        "cuda.py"
    ]
