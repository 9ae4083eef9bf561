"""The cache of the kernels' machine code: what it knows, and what happens where there is no place for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gs_ssd
from gs_ssd import render
from gs_ssd.render import compilation
from gs_ssd.render.compilation import kernel

ROOT = Path(gs_ssd.__file__).parents[1]


def python(folder: Path, code: str, **environment: str) -> subprocess.CompletedProcess:
    """Run `code` on the package in `folder`."""
    environment = os.environ | {"PYTHONPATH": str(folder)} | environment
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)


@pytest.mark.slow
def test_an_empty_cache_is_seen_and_compiling_fills_it(tmp_path):
    code = "from gs_ssd import render; print(render.kernels_are_compiled())"
    fresh = python(ROOT, code, NUMBA_CACHE_DIR=str(tmp_path))
    assert fresh.stdout.strip() == "False", fresh.stderr
    render.compile_kernels()
    assert render.kernels_are_compiled()


@pytest.mark.slow
def test_a_change_of_any_file_with_kernels_makes_the_cache_stale(tmp_path):
    """numba looks at the file of the kernel alone, and would run code that was compiled from an older helper."""
    source = "from gs_ssd.render.compilation import kernel\n@kernel\ndef double(x):\n    return 2 * x\n"
    (tmp_path / "module.py").write_text(source)
    copy = tmp_path / "gs_ssd"
    shutil.copytree(ROOT / "gs_ssd", copy, ignore=shutil.ignore_patterns("__pycache__"))
    code = "from module import double; double(1); print(sum(double.stats.cache_hits.values()))"
    hits = []
    for change in ("", "", "\n# changed\n"):
        simd = copy / "render" / "simd.py"
        simd.write_text(simd.read_text() + change)
        hits.append(python(tmp_path, code, NUMBA_CACHE_DIR=str(tmp_path / "cache")).stdout)
    assert [int(x) for x in hits] == [0, 1, 0]


@pytest.mark.slow
def test_a_read_only_install_without_a_home_runs_without_a_cache(tmp_path):
    copy = tmp_path / "gs_ssd"
    shutil.copytree(ROOT / "gs_ssd", copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "render" / "__pycache__").write_text("")  # a file: not even root can make the folder
    (tmp_path / "__pycache__").write_text("")
    (tmp_path / "module.py").write_text(
        "from gs_ssd.render.compilation import kernel\n@kernel\ndef double(x):\n    return 2 * x\n"
    )
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    code = "from gs_ssd import render; from module import double; print(render.kernels_are_compiled(), double(21))"
    code += "\nfrom gs_ssd.cli.doctor import kernels; print(render.kernels_are_kept(), kernels('cpu').remedy)"
    environment = {
        "HOME": "/dev/null/nonexistent",
        "XDG_CACHE_HOME": "/dev/null/cache",
        "NUMBA_CACHE_DIR": "",
    }
    run = python(tmp_path, code, **environment)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    assert run.stdout.splitlines() == ["False 42", "False export NUMBA_CACHE_DIR=<a folder that is>"], (
        run.stderr
    )
    assert run.stderr.count("set NUMBA_CACHE_DIR") == 1


def test_kernels_do_without_a_source_file():
    namespace = {}
    exec("def double(x):\n    return 2 * x", namespace)  # no file, hence nowhere to cache
    compilation._warn_once.cache_clear()
    with pytest.warns(UserWarning, match="set NUMBA_CACHE_DIR"):
        double = kernel(namespace["double"])
    assert double(np.int64(21)) == 42


def test_all_files_with_kernels_are_watched():
    files = {
        path.stem for path in (ROOT / "gs_ssd" / "render").glob("*.py") if "render.simd" in path.read_text()
    }
    assert files | {"simd", "threads"} == set(compilation._KERNEL_FILES)
