"""Every shipped method with every kind of prior that it runs on, as miniatures."""

from gs_ssd.session.shorthands import options

METHODS = [
    (guidance, prior)
    for guidance in options("guidance")
    for prior in ("tiny", "tiny_ip2p")
    if prior == "tiny_ip2p" or not guidance.endswith("_ip2p")
]
