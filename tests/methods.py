"""Every shipped method with every kind of prior that it runs on, as miniatures; in the fast lane each method once."""

import pytest

from gs_ssd.session.shorthands import options

METHODS = [
    pytest.param(
        guidance,
        prior,
        id=f"{guidance}-{prior}",
        marks=[] if prior == "tiny" or guidance.endswith("_ip2p") else pytest.mark.slow,
    )
    for guidance in options("guidance")
    for prior in ("tiny", "tiny_ip2p")
    if prior == "tiny_ip2p" or not guidance.endswith("_ip2p")
]
