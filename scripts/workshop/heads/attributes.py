"""What a head looks like, in words: the random choices behind a picture and its caption."""

from dataclasses import dataclass, field, replace

import numpy as np

COSTUMES = (
    "spiderman", "batman", "clown", "joker", "marble", "bronze", "gold", "zombie", "skull", "robot", "ironman", "hulk",
)  # fmt: skip
MASKS = ("spiderman", "batman", "ironman", "robot", "skull")  # no hair, no facial hair, no glasses
STATUES = ("marble", "bronze", "gold")
COSTUME_WEIGHTS = {
    "spiderman": 2.6, "batman": 1.8, "clown": 2.0, "joker": 1.5, "marble": 1.6, "zombie": 1.5, "skull": 1.5,
    "gold": 1.3, "bronze": 0.6, "robot": 0.8, "ironman": 0.8, "hulk": 0.8,
}  # fmt: skip
AXES = {  # what a counterfactual pair changes, and how often
    "costume": 0.53, "mustache": 0.08, "beard": 0.05, "hair": 0.06, "style": 0.05, "eyewear": 0.06, "hat": 0.07,
    "old": 0.03, "cloth": 0.01, "smile": 0.06,
}  # fmt: skip
RED_SHARE = 0.4  # of the hair pairs end in red, which has a prompt of its own

SKINS = np.array(
    [[0.93, 0.76, 0.66], [0.88, 0.68, 0.55], [0.80, 0.59, 0.45], [0.64, 0.44, 0.32], [0.45, 0.30, 0.22]]
)  # fmt: skip
SKIN_WEIGHTS = np.array([0.3, 0.3, 0.2, 0.12, 0.08])
HAIR = {
    "black": (0.07, 0.06, 0.06), "brown": (0.30, 0.18, 0.10), "blond": (0.85, 0.68, 0.38), "red": (0.68, 0.17, 0.05),
    "grey": (0.55, 0.55, 0.56), "white": (0.90, 0.90, 0.89), "blue": (0.12, 0.25, 0.80), "green": (0.13, 0.60, 0.20),
    "pink": (0.92, 0.42, 0.68), "purple": (0.46, 0.16, 0.62),
}  # fmt: skip
NATURAL, OLD, DYED = (
    ("black", "brown", "blond", "red"),
    ("grey", "white"),
    ("blue", "green", "pink", "purple"),
)
CLOTH = {
    "red": (0.72, 0.10, 0.10), "blue": (0.13, 0.22, 0.60), "green": (0.12, 0.42, 0.20), "black": (0.08, 0.08, 0.09),
    "white": (0.90, 0.90, 0.90), "yellow": (0.90, 0.76, 0.18), "brown": (0.40, 0.26, 0.15), "grey": (0.48, 0.49, 0.51),
    "purple": (0.42, 0.15, 0.55), "orange": (0.92, 0.48, 0.12),
}  # fmt: skip
GARMENTS = ("shirt", "jacket", "sweater")
EYES = np.array([[0.28, 0.16, 0.08], [0.20, 0.38, 0.62], [0.22, 0.42, 0.26], [0.12, 0.08, 0.06]])
DETAIL_SPREAD = {
    "head_fat": 0.35, "head_square": 0.3, "head_round": 0.3, "head_oval": 0.3, "head_wide": 0.35, "head_tall": 0.35,
    "chin_wide": 0.4, "chin_out": 0.3, "chin_tall": 0.3, "cheek_bones": 0.4, "cheek_full": 0.35, "nose_wide": 0.4,
    "nose_long": 0.4, "nose_tall": 0.35, "nose_hump": 0.35, "nose_point": 0.35, "mouth_wide": 0.35, "lips_lower": 0.4,
    "lips_upper": 0.4, "ear_wing": 0.4, "ear_large": 0.35, "neck_wide": 0.3,
}  # fmt: skip


@dataclass(frozen=True)
class Head:
    """One head. `costume` is "" for an ordinary person; colours are linear-free display RGB in [0, 1]."""

    costume: str = ""
    woman: bool = False
    old: bool = False
    skin: tuple[float, float, float] = (0.88, 0.68, 0.55)
    eye: tuple[float, float, float] = (0.28, 0.16, 0.08)
    hair: str = "brown"
    style: str = "short"  # short, long, bald
    beard: str = ""  # "", mustache, beard
    eyewear: str = ""  # "", glasses, sunglasses
    hat: str = ""  # "" or its colour
    cloth: str = "blue"
    garment: str = "shirt"
    smile: bool = False
    shape: dict[str, float] = field(default_factory=dict)
    paint_seed: int = 0


def _pick(rng: np.random.Generator, options, p=None):
    return options[int(rng.choice(len(options), p=p))]


def sample_shape(rng: np.random.Generator, woman: bool, old: bool) -> dict[str, float]:
    """Blendshape weights: a mixture of the twelve reference people plus small details."""
    gender, races = ("female" if woman else "male"), rng.dirichlet((1.2, 0.5, 0.5))
    age = rng.uniform(0.75, 1.0) if old else rng.uniform(0.0, 0.3)
    weights = {}
    for race, share in zip(("caucasian", "african", "asian"), races):
        weights[f"{race}-{gender}-old"] = share * age
        weights[f"{race}-{gender}-young"] = share * (1 - age)
    weights.pop("caucasian-male-young", None)  # the reference itself
    for name, spread in DETAIL_SPREAD.items():
        weights[name] = float(np.clip(rng.normal(0, spread), -0.9, 0.9))
    return weights


def sample_head(rng: np.random.Generator, costume_share: float = 0.5) -> Head:
    """Draw a head; `costume_share` is the probability of a costume."""
    woman, old = rng.random() < 0.25, rng.random() < 0.2
    palette = OLD if old and rng.random() < 0.85 else DYED if rng.random() < 0.12 else NATURAL
    style = _pick(rng, ("short", "long", "bald"), (0.12, 0.85, 0.03) if woman else (0.78, 0.06, 0.16))
    beard = "" if woman else _pick(rng, ("", "mustache", "beard"), (0.56, 0.22, 0.22))
    head = Head(
        woman=woman,
        old=old,
        skin=tuple(SKINS[rng.choice(len(SKINS), p=SKIN_WEIGHTS)] * rng.uniform(0.96, 1.03)),
        eye=tuple(_pick(rng, EYES)),
        hair=_pick(rng, palette),
        style=style,
        beard=beard,
        eyewear=_pick(rng, ("", "glasses", "sunglasses"), (0.76, 0.09, 0.15)),
        hat=_pick(rng, tuple(CLOTH)) if rng.random() < 0.12 else "",
        cloth=_pick(rng, tuple(CLOTH)),
        garment=_pick(rng, GARMENTS),
        smile=bool(rng.random() < 0.25),
        shape=sample_shape(rng, woman, old),
        paint_seed=int(rng.integers(2**31)),
    )
    return wear(head, sample_costume(rng)) if rng.random() < costume_share else head


def sample_costume(rng: np.random.Generator) -> str:
    weights = np.array([COSTUME_WEIGHTS.get(name, 1.0) for name in COSTUMES])
    return _pick(rng, COSTUMES, weights / weights.sum())


def wear(head: Head, costume: str) -> Head:
    """The same person in a costume; what the costume hides is removed."""
    if costume in MASKS:
        return replace(head, costume=costume, style="bald", beard="", eyewear="", hat="", woman=False)
    if costume in STATUES:
        return replace(head, costume=costume, eyewear="", hat="")
    return replace(head, costume=costume, eyewear="", hat="", beard="" if costume != "zombie" else head.beard)


def counterfactual(head: Head, rng: np.random.Generator, axis: str = "") -> tuple[Head, Head, str]:
    """Two versions of `head` that differ in one thing, and the name of that thing: `axis`, or one of AXES at random."""
    axis = axis or _pick(rng, tuple(AXES), np.array(list(AXES.values())))
    plain = replace(head, costume="")
    if axis == "costume":
        return plain, wear(plain, sample_costume(rng)), axis
    if axis in ("mustache", "beard"):
        plain = replace(plain, woman=False, beard="", shape={} if head.woman else head.shape)
        return plain, replace(plain, beard=axis), axis
    if axis == "hair":
        red = rng.random() < RED_SHARE
        first = _pick(rng, [c for c in (*NATURAL, *OLD) if c != "red"]) if red else _pick(rng, tuple(HAIR))
        second = "red" if red else _pick(rng, [c for c in HAIR if c != first])
        plain = replace(plain, style=plain.style if plain.style != "bald" else "short", hat="")
        return replace(plain, hair=first), replace(plain, hair=second), axis
    if axis == "style":
        return replace(plain, style="short", hat=""), replace(plain, style="long", hat=""), axis
    if axis == "eyewear":
        return (
            replace(plain, eyewear=""),
            replace(plain, eyewear=_pick(rng, ("glasses", "sunglasses"), (0.15, 0.85))),
            axis,
        )
    if axis == "hat":
        return replace(plain, hat=""), replace(plain, hat=_pick(rng, tuple(CLOTH))), axis
    if axis == "old":
        shapes = [{**plain.shape, **sample_age(plain, old)} for old in (False, True)]
        young_hair = plain.hair if plain.hair in NATURAL else _pick(rng, NATURAL)
        young = replace(plain, old=False, hair=young_hair, shape=shapes[0])
        return young, replace(young, old=True, hair=_pick(rng, OLD), shape=shapes[1]), axis
    if axis == "cloth":
        colours = rng.permutation(list(CLOTH))[:2]
        return replace(plain, cloth=str(colours[0])), replace(plain, cloth=str(colours[1])), axis
    return replace(plain, smile=False), replace(plain, smile=True), axis


def sample_age(head: Head, old: bool) -> dict[str, float]:
    """Weights that keep the race mixture of `head` and set the age."""
    gender = "female" if head.woman else "male"
    share = {
        r: sum(head.shape.get(f"{r}-{gender}-{a}", 0.0) for a in ("young", "old"))
        for r in ("african", "asian")
    }
    share["caucasian"] = 1 - sum(share.values())
    age = 0.9 if old else 0.1
    weights = {
        f"{r}-{gender}-{a}": s * (age if a == "old" else 1 - age)
        for r, s in share.items()
        for a in ("young", "old")
    }
    weights.pop("caucasian-male-young", None)
    return weights
