"""LPIPS where it can be had; one line where it can't."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.metrics.lpips import Lpips


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_without_torchvision():
    with pytest.raises(UserError, match="pip install torchvision"):
        Lpips()


def test_lpips():
    pytest.importorskip("torchvision")
    try:
        lpips = Lpips()
    except UserError as error:
        pytest.skip(str(error))
    a, b = torch.rand(2, 1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    assert lpips(a, a) == 0
    far = lpips(a, b)
    assert far > lpips(a, a + 0.1 * (b - a)) > 0
    assert lpips(a, b) == far  # no memory of earlier calls
