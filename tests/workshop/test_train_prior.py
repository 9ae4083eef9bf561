"""What the prior is trained on: batches of pictures and of edit pairs."""

import numpy as np
import pytest
import torch

from scripts.workshop.caption_hearing import report
from scripts.workshop.heads.dataset import sample_group
from scripts.workshop.heads.latents import LatentSet
from scripts.workshop.train_prior import (
    BEYOND,
    COARSE,
    EDIT_TIMES,
    Batch,
    batch_loss,
    difference,
    difference_weights,
    draw_batch,
    draw_edit_timesteps,
    make_scheduler,
    on_the_way,
    time_weights,
)

NULL = torch.zeros(1, 4, dtype=torch.long)


@pytest.fixture(scope="module")
def alphas():
    return make_scheduler().alphas_cumprod


@pytest.fixture(scope="module")
def batch(alphas):
    """16 members of a set in which picture i is the constant i and its captions are i + 1, repeated."""
    values = torch.arange(20.0)
    data = LatentSet(
        latents=values.view(-1, 1, 1, 1).expand(-1, 3, 8, 8).half(),
        tokens=(values.long() + 1).view(-1, 1, 1).expand(-1, 2, 4),
        axes=["costume"] * 10 + [""] * 10,
    )
    return draw_batch(data, 400, NULL, alphas, torch.Generator().manual_seed(0))


def test_both_captions_of_an_edit_pair_are_asked_of_one_picture(batch):
    source, target = slice(0, batch.edits), slice(batch.pairs, batch.pairs + batch.edits)
    torch.testing.assert_close(batch.z_t[source], batch.z_t[target])
    assert torch.equal(batch.t[source], batch.t[target])
    captioned = (batch.tokens[source, 0] > 0) & (batch.tokens[target, 0] > 0)
    assert captioned.sum() > 50
    torch.testing.assert_close(
        (batch.x[target] - batch.x[source])[captioned], torch.ones(captioned.sum(), 3, 8, 8)
    )


def test_the_answer_is_what_the_caption_says(batch):
    captioned = batch.tokens[:, 0] > 0
    expected = (batch.tokens[:, 0] - 1).float().view(-1, 1, 1, 1).expand_as(batch.x)
    torch.testing.assert_close(batch.x[captioned], expected[captioned])


def test_without_a_caption_the_answer_is_the_picture_itself(batch, alphas):
    """Partners share their noise, so what a source and its target see is the same, and so is the answer."""
    source, target = slice(0, batch.edits), slice(batch.pairs, batch.pairs + batch.edits)
    bare = (batch.tokens[source, 0] == 0) & (batch.tokens[target, 0] == 0)
    assert bare.any()
    torch.testing.assert_close(batch.x[source][bare], batch.x[target][bare])
    a = alphas[batch.t[source][bare]].view(-1, 1, 1, 1)
    noise = (batch.z_t[source][bare] - a.sqrt() * batch.x[source][bare]) / (1 - a).sqrt()
    assert noise.std() == pytest.approx(1.0, abs=0.1)


def test_pictures_on_the_way():
    generator = torch.Generator().manual_seed(0)
    way = on_the_way(torch.zeros(500, 2, 16, 16), torch.ones(500, 2, 16, 16), generator)
    assert way.min() == 0 and way.max() <= BEYOND
    assert 0.3 < (way == 0).all(dim=(1, 2, 3)).float().mean() < 0.6  # the source itself
    assert way[:, :, -1].mean() < 0.75 * way[:, :, 4].mean()  # clothes often stay


def test_details_come_after_colours():
    generator = torch.Generator().manual_seed(0)
    way = on_the_way(torch.zeros(200, COARSE + 2, 8, 8), torch.ones(200, COARSE + 2, 8, 8), generator)
    coarse, fine = way[:, :COARSE], way[:, COARSE:]
    assert torch.equal(coarse.amin(1), coarse.amax(1)) and torch.equal(fine[:, 0], fine[:, 1])
    assert (fine <= coarse[:, :2]).all() and 0.3 < fine.mean() / coarse.mean() < 0.7


def test_the_timesteps_of_edit_pairs(batch):
    t = draw_edit_timesteps(4000, torch.Generator().manual_seed(0))
    for low, high, share in EDIT_TIMES:
        assert ((low <= t) & (t < high)).float().mean() == pytest.approx(share, abs=0.03)
    assert t.min() >= 10 and t.max() < 999
    assert torch.equal(batch.t[: batch.edits], batch.t[batch.pairs : batch.pairs + batch.edits])


def test_small_differences_weigh_more():
    a = torch.zeros(2, 3, 16, 16)
    b = a.clone()
    b[0, :, :2, :2], b[1, :, :8] = 1.0, 1.0
    weights = difference_weights(a, b)
    assert weights[0].max() > 3 * weights[1].max() > 3
    assert weights[0, 0, 10, 10] == weights[1, 0, 10, 10] == 1


def test_an_error_that_both_answers_share_costs_less(alphas):
    """The difference of the answers is what an edit follows."""
    x, weights = torch.zeros(2, 3, 4, 4), time_weights(alphas[[500, 500]], cap=1.0).repeat(1, 1, 4, 4)
    batch = Batch(x, torch.tensor([500, 500]), NULL.expand(2, -1), x, weights, pairs=1, edits=1)
    shared = torch.ones_like(x)
    opposed = shared * torch.tensor([1.0, -1.0]).view(-1, 1, 1, 1)
    assert batch_loss(x, batch) == 0
    assert batch_loss(opposed, batch) > 2 * batch_loss(shared, batch)


def test_time_weights_are_those_of_v(alphas):
    torch.testing.assert_close(time_weights(alphas[[600]], cap=5.0).flatten(), 1 / (1 - alphas[[600]]))
    assert time_weights(alphas[[5]], cap=5.0).item() == 5.0


def test_a_small_change_is_a_difference_and_noise_is_none():
    a = torch.zeros(3, 24, 16, 16)
    b = a.clone()
    b[0, :, 3:9] = 1.0  # a costume
    b[1, :, 5, 7], b[1, :, 5, 8] = 0.06, 0.02  # a smile
    b[2, :, 2] = 0.01  # nothing to speak of
    assert difference(a, b).sum((1, 2, 3)).tolist() == [6 * 16, 1, 0]


def test_a_pair_changes_what_was_asked_for():
    (source, target), *_ = sample_group(np.random.default_rng(0), 32, views=1, axis="hat")
    assert source.axis == target.axis == "hat"
    assert not any("hat" in words for words in source.captions) and all("hat" in w for w in target.captions)


def test_what_a_caption_says_is_a_ratio_of_sums_over_heads():
    assert report("hat", [(1.0, 2.0), (3.0, 6.0)]) == "hat          2.00 ± 0.00   (2 heads)"
    assert report("hat", [(1.0, 3.0), (1.0, 1.0)]) == "hat          2.00 ± 1.00   (2 heads)"
