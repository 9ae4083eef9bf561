"""Kernels that are compiled: until they are, the studio shows dots and says so."""

import pytest

from gs_ssd.render import compile_kernels


@pytest.fixture(autouse=True, scope="session")
def kernels() -> None:
    compile_kernels()
