"""Every shipped method with every kind of prior that it runs on, as miniatures; the fast lane has one of each kind."""

import pytest

from gs_ssd.assets import CONFIGS
from gs_ssd.session.shorthands import options

# Scores run in 3D and in 2D; what edits pictures has tests of its own (tests/session/test_rivals.py).
DISTILLED = [
    name
    for name in options("guidance")
    if "_target_: gs_ssd.guidance." in (CONFIGS / "guidance" / f"{name}.yaml").read_text()
]
FAST = {("ssd", "tiny"), ("ssd_cds", "tiny"), ("vsd", "tiny"), ("ssd_ip2p", "tiny_ip2p")}

METHODS = [
    pytest.param(
        guidance,
        prior,
        id=f"{guidance}-{prior}",
        marks=[] if (guidance, prior) in FAST else pytest.mark.slow,
    )
    for guidance in options("guidance")
    if guidance in DISTILLED
    for prior in ("tiny", "tiny_ip2p")
    if prior == "tiny_ip2p" or not guidance.endswith("_ip2p")
]
