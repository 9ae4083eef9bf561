"""What a prior, a kind of canvas and a method bring for each other: the one table of tuned numbers.

The published numbers are the defaults of the classes and of `configs/`; a row here overrules them where something
else was found to suit better, and says why. Rows apply in order, so a later one wins; a user's own value wins over all.
The API and the command line read the same table.

    prior    family of the prior (`family`): embedded, tiny or one of PHOTOS; "" for any
    canvas   scene (a scene is edited), blob (made from nothing), image (edited), noise (an image made); "" for any
    method   of the guidance, by its choice in `configs/guidance`; "" for any
    rule     of the timesteps, by its choice in `configs/timesteps`; "" for any
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gs_ssd.assets import DATA

CLIP_L = "openai/clip-vit-large-patch14"
# The families that know photographs.
PHOTOS = ("sd", "ip2p", "sdxl", "sd3", "flux", "flux2", "z_image", "pixart")


@dataclass(frozen=True)
class Row:
    """`settings` by their dotted names on the command line, where the row's other columns fit."""

    why: str
    settings: dict[str, Any]
    prior: str = ""
    canvas: str = ""
    method: str = ""
    rule: str = ""

    def fits(self, **choices: str) -> bool:
        return all(getattr(self, name) in ("", value) for name, value in choices.items())


def rows() -> Iterator[Row]:
    """The table."""
    judge = {"metrics.clip": str(DATA / "judge")}
    photos = {"metrics.clip": CLIP_L, "metrics.size": 224}
    for canvas in ("scene", "blob"):
        yield Row("the judge that knows the sample scenes", judge, prior="embedded", canvas=canvas)
        for prior in PHOTOS:
            yield Row("the judge of the published tables", photos, prior=prior, canvas=canvas)

    own = {"prior": "embedded"}
    for rule in ("linear", "uniform"):
        low, high = {"timesteps.ratio_min": 0.1}, {"timesteps.ratio_min": 0.2, "timesteps.ratio_max": 0.9}
        yield Row("its last details are noise where there is no picture to start from", low, **own, rule=rule)
        for canvas in ("scene", "image"):
            why = (
                "it was taught most where the source is still seen: there it says where an eye or a lens goes"
            )
            yield Row(
                why,
                {"timesteps.ratio_min": 0.05, "timesteps.ratio_max": 0.8},
                **own,
                canvas=canvas,
                rule=rule,
            )
        yield Row("as published with it", high, prior="ip2p", rule=rule)

    weights = {"w_p": 1.0, "w_e": 0.0, "w_id": 0.1}
    why = (
        "its answers are sharp: w_p = w_t rests where the answer to the target is, and costs two evaluations"
    )
    for canvas in ("scene", "image"):
        for method, place in (("ssd", "guidance"), ("ssd_cds", "guidance.score")):
            settings = {f"{place}.{name}": value for name, value in weights.items()}
            yield Row(why, settings, prior="embedded", canvas=canvas, method=method)

    why = (
        "below this its answers to two prompts differ by chance; what a prompt does not name stays as it was"
    )
    yield Row(why, {"guidance.hold": 0.7}, prior="embedded", canvas="scene", method="ssd")

    why = "the identity term is for 3D, where views disagree; in 2D it only weakens the edit"
    yield Row(why, {"guidance.w_id": 0.0}, canvas="image", method="ssd")
    yield Row(why, {"guidance.score.w_id": 0.0}, canvas="image", method="ssd_cds")
    yield Row(why, {"guidance.w_id": 0.0}, canvas="image", method="ssd_ip2p")

    yield from moves()
    yield from rivals()
    yield from generation()


def rivals() -> Iterator[Row]:
    """What edits pictures in 2D: alone, or to refit a scene to them."""
    own: dict[str, Any] = {"prior": "embedded"}
    why = "its answers are sharp: a larger scale over-saturates"
    yield Row(why, {"guidance.s": 1.0, "guidance.strength": 0.6}, **own, method="sdedit")
    yield Row(why, {"guidance.s": 1.0, "guidance.strength": 0.9}, **own, method="ddim_inversion")
    scales = {"guidance.s": 1.0, "guidance.s_src": 1.0, "guidance.strength": 0.9}
    yield Row(why, scales, **own, method="flowedit")

    for method in ("in2n", "dge"):
        yield Row("anchors are GaussianEditor's", {"anchors": None}, canvas="scene", method=method)
    shared = {"guidance.s": 1.0, "steps": 400}
    for method in ("in2n", "gs_editor", "dge"):
        yield Row(why, shared, **own, canvas="scene", method=method)
    why = "small pictures take fewer moves, and a short run sees fewer views: 800 noise predictions, as DDS's 200 steps"
    few = {"guidance.moves": 10, "guidance.views": 24, "guidance.strength": [0.02, 0.6]}
    yield Row(why, few | {"guidance.every": 5}, **own, canvas="scene", method="in2n")
    yield Row(why, few, **own, canvas="scene", method="gs_editor")
    why = "it has no picture to look at, so that a level of 1 would forget the source: inversion keeps it"
    once = {"guidance.editor": "ddim_inversion", "guidance.rounds": [0.9], "guidance.moves": 40}
    yield Row(why, once, **own, canvas="scene", method="dge")


def moves() -> Iterator[Row]:
    """How fast the Gaussians of a scene may move."""
    rates = {
        "means": 7e-4,
        "means_final": 7e-6,
        "scales": 0.002,
        "quats": 5e-4,
        "opacities": 0.03,
        "sh0": 0.02,
    }
    why = (
        "it knows shapes, so surfaces may move, but early, and neither swell nor turn much: in the last steps that "
        "grows fur on the outline of hats and hair; more than 200 steps bring no more"
    )
    settings = {f"optimizer.rates.{name}": value for name, value in rates.items()} | {"steps": 200}
    yield Row(why, settings, prior="embedded", canvas="scene")
    why = "its first answers know the outline: room is made there, and opacity, not travel, makes the shape"
    rates = {"means": 2e-4, "means_final": 2e-6, "scales": 0.001, "opacities": 0.1}
    settings = {f"optimizer.rates.{name}": value for name, value in rates.items()} | {"hull.views": 24}
    yield Row(why, settings, prior="embedded", canvas="scene", method="ssd")

    rates = {
        "means": 5e-4,
        "means_final": 5e-5,
        "scales": 0.005,
        "quats": 0.005,
        "opacities": 0.05,
        "sh0": 0.01,
    }
    settings = {f"optimizer.rates.{name}": value for name, value in rates.items()}
    grown = {"densify.percent": 0.2, "densify.max_size": 0.05, "anchors": None}
    yield Row("a ball has nothing to hold and must grow a shape", settings | grown, canvas="blob")


def generation() -> Iterator[Row]:
    """What makes something from nothing: 3D scenes and images."""
    own = {"prior": "embedded"}
    bad = "it has seen no bad pictures, so no negative prompt says what to leave"
    down = {"timesteps.ratio_min": 0.02}
    for canvas in ("blob", "noise"):
        for method in ("nfsd", "sds", "vsd"):
            if (canvas, method) == ("blob", "sds"):
                continue  # keeps the coarse end of its schedule
            for rule in ("linear", "uniform"):
                yield Row("down to the last details", down, **own, canvas=canvas, method=method, rule=rule)
        scale = (
            {"guidance.s": 4.0} if canvas == "blob" else {"s": 4.0}
        )  # the image's door has one for every method
        for method in ("nfsd", "vsd"):
            yield Row(
                "7.5 over-saturates, even in plain sampling", scale, **own, canvas=canvas, method=method
            )
        settings = {"guidance.threshold": 0.8, "prompt.negative": ""}
        yield Row(bad, settings, **own, canvas=canvas, method="nfsd")
        why = "its adapters have hundreds of steps to follow what is made"
        yield Row(why, {"guidance.lr": 5e-3}, **own, canvas=canvas, method="vsd")
    settings = {"guidance.s": 4.0, "guidance.uniform": True}
    why = "it follows its captions closely: 100 over-saturates"
    yield Row(why, settings, **own, canvas="blob", method="sds")
    why = "w(t) = 1, as in the published comparison at s = 7.5"
    yield Row(why, {"guidance.uniform": True}, **own, canvas="noise", method="sds")


def calibrated(*, prior: str, canvas: str, method: str, rule: str) -> dict[str, Any]:
    """The settings that the table gives, by their dotted names."""
    settings: dict[str, Any] = {}
    for row in rows():
        if row.fits(prior=prior, canvas=canvas, method=method, rule=rule):
            settings |= row.settings
    return settings
