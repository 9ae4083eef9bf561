"""The closed vocabulary of the captions, and a CLIP tokenizer in which each of its words is one token."""

import json
import re

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from scripts.workshop.heads.attributes import CLOTH, GARMENTS, HAIR
from scripts.workshop.heads.captions import COMMANDS, GIVE, NAMES, OPENINGS

LENGTH = 32  # tokens per caption, with start and end
OTHER = (
    "a an and with wearing hair long beard mustache glasses sunglasses hat smile man woman old bald",
    "front view side from behind of ,",
)
START, END = "<|startoftext|>", "<|endoftext|>"
CHARACTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789-,.'!?")
PIECES = r"[a-z]+|[0-9]|[^\sa-z0-9]+"  # how CLIP splits lower-case text before byte pairs


def words() -> list[str]:
    """Every word (and punctuation mark) that a caption can hold, sorted."""
    phrases = [
        *OPENINGS,
        *COMMANDS,
        *GIVE,
        *(n for names in NAMES.values() for n in names),
        *HAIR,
        *CLOTH,
        *GARMENTS,
    ]
    text = " ".join([*phrases, *OTHER])
    return sorted(set(re.findall(PIECES, re.sub(r"\{\w*\}", " ", text))))


def build_tokenizer() -> CLIPTokenizer:
    """Train byte pairs on the words until each is one token; unknown words still split into known pieces."""
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "removed", invert=True)
    trainer = trainers.BpeTrainer(
        vocab_size=10_000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False
    )
    trained.train_from_iterator(words(), trainer)
    merges = [
        tuple(m.split(" ") if isinstance(m, str) else m)
        for m in json.loads(trained.to_str())["model"]["merges"]
    ]
    tokens = [START, END, *CHARACTERS, *(c + "</w>" for c in CHARACTERS), *(a + b for a, b in merges)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        model_max_length=LENGTH,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
    )
