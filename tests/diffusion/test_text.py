"""Text records go through guidance whole: split, repeated and joined without a look inside."""

import torch

from gs_ssd.diffusion.text import TextCondition


def record(*, full: bool) -> TextCondition:
    hidden = torch.arange(24.0).reshape(3, 4, 2)
    return TextCondition(hidden, hidden[..., 0] > 3, hidden[:, 0]) if full else TextCondition(hidden)


def same(a: TextCondition, b: TextCondition) -> bool:
    pairs = ((a.hidden, b.hidden), (a.mask, b.mask), (a.pooled, b.pooled))
    return all(x is y is None or torch.equal(x, y) for x, y in pairs)


def test_split_and_cat_are_inverse():
    for full in (True, False):
        text = record(full=full)
        assert [len(part) for part in text.split()] == [1, 1, 1]
        assert same(TextCondition.cat(text.split()), text)


def test_one_prompt_is_repeated_and_a_batch_is_left_alone():
    text = record(full=True)
    assert text.expand(3) is text
    repeated = text.split()[1].expand(2)
    assert len(repeated) == 2 and all(same(part, text.split()[1]) for part in repeated.split())
