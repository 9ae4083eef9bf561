"""What a user is told about prompts that can't work, or may not."""

from __future__ import annotations

import pytest

from gs_ssd.diffusion.stable_diffusion import StableDiffusionPrior
from gs_ssd.diffusion.tiny import tiny_parts, tiny_prior
from gs_ssd.errors import UserError
from gs_ssd.session.prompts import check_prompts


@pytest.mark.parametrize(
    "source, target, message",
    [
        ("a man", "", "prompt.target is empty"),
        ("a man", None, "prompt.target is empty"),
        ("  ", "a clown", "prompt.source is missing"),
        (None, "a clown", "prompt.source is missing"),
        ("A man ", "a man", "prompt.target equals prompt.source"),
        ("a man", "word " * 250, "prompt.target has 250 words"),
    ],
)
def test_prompts_that_cannot_work(source, target, message):
    with pytest.raises(UserError, match=message):
        check_prompts(tiny_prior(), source=source, target=target)


def test_open_vocabularies_know_every_word():
    assert check_prompts(tiny_prior(), source="a man", target="a xylophonist") == []


def test_unknown_words_name_the_nearest_known_ones():
    vocabulary = {"words": ["a", "man", "clown", "hair"]}
    prior = StableDiffusionPrior(**tiny_parts(), vocabulary=vocabulary, name="heads")
    (warning,) = check_prompts(prior, source="a man", target="a clwn xyzzy")
    assert "heads prior doesn't know: clwn, xyzzy (nearest known: clown)" in warning
