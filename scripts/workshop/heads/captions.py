"""Captions: plain lower-case sentences about a head, of the kind that is also used as an edit prompt."""

import numpy as np

from scripts.workshop.heads.attributes import Head

OPENINGS = (
    "a photo of {}",
    "{}",
    "a portrait of {}",
    "a picture of {}",
    "a photo of the face of {}",
    "a face of {}",
)
OPENING_WEIGHTS = np.array([0.5, 0.26, 0.07, 0.07, 0.06, 0.04])
NAMES = {
    "spiderman": ("spider-man", "spiderman", "a man wearing a spider-man mask", "a man in a spider-man mask",
                  "spider-man with a mask", "a man in a spider-man costume"),
    "batman": ("batman", "{who} wearing a batman mask", "a man wearing a batman mask", "a man in a batman mask",
               "a man in a batman costume"),
    "clown": ("a clown", "a man with clown makeup", "a clown with a red nose", "a clown with {hair} hair"),
    "joker": ("the joker", "a man with joker makeup", "joker", "the joker with green hair"),
    "marble": ("a marble statue of {who}", "a marble statue", "a marble bust of {who}", "{who} made of marble",
               "a statue of {who}", "a white marble statue"),
    "bronze": ("a bronze statue of {who}", "a bronze statue", "a bronze bust of {who}", "{who} made of bronze"),
    "gold": ("a gold statue of {who}", "a golden statue of {who}", "a gold statue", "a golden statue",
             "{who} made of gold", "a gold bust of {who}"),
    "zombie": ("a zombie", "a zombie {noun}", "a man with zombie makeup", "a scary zombie"),
    "skull": ("a skull", "a skeleton", "a man with a skull face", "a man wearing a skull mask"),
    "robot": ("a robot", "a metal robot", "a silver robot", "a robot with red eyes"),
    "ironman": ("iron man", "a man wearing an iron man helmet", "iron man in a red and gold helmet",
                "a man in an iron man suit", "a man wearing an iron man mask"),
    "hulk": ("the hulk", "hulk", "a man with green skin", "the green hulk"),
}  # fmt: skip
COMMANDS = ("turn him into {}", "make him {}", "turn the man into {}", "turn the face into {}")
PLAIN_SHARE = 0.35  # of the ordinary heads are just "a photo of a man", as the source prompt of an edit
VIEW_SHARE = 0.5  # of the captions say where the camera stands, where there are words for it
GIVE = ("give him {}", "{}", "the man with {}", "a man with {}")


def article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _person(head: Head, old_word: bool, bald_word: bool) -> str:
    noun = "woman" if head.woman else "man"
    words = [
        w for w, on in (("old", head.old and old_word), ("bald", head.style == "bald" and bald_word)) if on
    ]
    return article(" ".join([*words, noun]))


def facts(head: Head) -> dict[str, tuple[str, str]]:
    """Attribute -> (preposition, phrase) of everything that could be said about an ordinary head."""
    found = {}
    if head.style != "bald":
        found["hair"] = ("with", f"{head.hair} hair")
        if head.style == "long":
            found["style"] = ("with", f"long {head.hair} hair")
    if head.beard:
        found["beard"] = ("with", article(head.beard))
    if head.eyewear:
        found["eyewear"] = ("wearing", head.eyewear)
    if head.hat:
        found["hat"] = ("wearing", article(f"{head.hat} hat"))
    if head.smile:
        found["smile"] = ("with", "a smile")
    found["cloth"] = ("wearing", article(f"{head.cloth} {head.garment}"))
    return found


def view_words(yaw: float) -> str:
    """Where the camera stands; yaw in degrees, 0 = front."""
    turn = abs((yaw + 180) % 360 - 180)
    if turn < 25:
        return "front view"
    return "from behind" if turn > 135 else "side view" if 65 < turn < 115 else ""


def caption(head: Head, rng: np.random.Generator, yaw: float = 0.0, must: str = "") -> str:
    """Describe `head` seen from `yaw`; `must` names an attribute that has to be mentioned when it is present."""
    text = _costume_caption(head, rng) if head.costume else _person_caption(head, rng, must)
    if rng.random() < VIEW_SHARE and view_words(yaw):
        text = f"{text}, {view_words(yaw)}" if rng.random() < 0.85 else f"{view_words(yaw)} of {text}"
    return text


def _costume_caption(head: Head, rng: np.random.Generator) -> str:
    names = NAMES[head.costume]
    name = names[0] if rng.random() < 0.5 else names[int(rng.integers(len(names)))]
    noun = "woman" if head.woman else "man"
    name = name.format(who=_person(head, rng.random() < 0.9, False), noun=noun, hair=head.hair)
    if rng.random() < 0.08:
        return COMMANDS[int(rng.integers(len(COMMANDS)))].format(name)
    return OPENINGS[int(rng.choice(len(OPENINGS), p=OPENING_WEIGHTS))].format(name)


def _person_caption(head: Head, rng: np.random.Generator, must: str) -> str:
    known = facts(head)
    wanted = {name for name in known if rng.random() < (0.12 if name == "cloth" else 0.42)}
    if rng.random() < PLAIN_SHARE:
        wanted = set()
    if must in known:
        wanted |= {must}
    if "style" in wanted:
        wanted.discard("hair")
    if must == "beard" and "beard" in known and rng.random() < 0.15:
        return GIVE[int(rng.integers(len(GIVE)))].format(known["beard"][1])
    order = [name for name in known if name in wanted]
    rng.shuffle(order)
    text = _person(head, rng.random() < 0.9 or must == "old", rng.random() < 0.5)
    for preposition in ("with", "wearing"):
        phrases = [known[name][1] for name in order if known[name][0] == preposition]
        if phrases:
            text += f" {preposition} " + " and ".join(phrases)
    return OPENINGS[int(rng.choice(len(OPENINGS), p=OPENING_WEIGHTS))].format(text)
