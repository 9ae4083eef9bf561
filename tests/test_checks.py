"""Settings are refused by type and range in one line; what passes comes back in its plain type."""

import math

import numpy as np
import pytest
import torch

from gs_ssd import checks
from gs_ssd.errors import UserError


@pytest.mark.parametrize("value", [3, np.int64(3), 1, 10], ids=lambda value: type(value).__name__)
def test_whole_numbers_pass(value):
    got = checks.whole("steps", value, 1, 10)
    assert got == value and type(got) is int


@pytest.mark.parametrize(
    "value",
    [None, True, "3", "abc", 1.5, 3.0, math.nan, 0, 11, 10**5000, [3], 1e3],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_no_whole_numbers(value):
    with pytest.raises(UserError, match=r"^steps=.* must be a whole number from 1 to 10$") as caught:
        checks.whole("steps", value, 1, 10)
    assert len(str(caught.value)) < 120 and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.5), 2.0], ids=lambda value: type(value).__name__)
def test_numbers_pass(value):
    got = checks.number("rate", value, above=0, most=2)
    assert got == value and type(got) is float


@pytest.mark.parametrize(
    "value", [None, False, "1", math.nan, math.inf, -math.inf, 0, -1, 2.1, [1.0], 10**400]
)
def test_other_values_are_no_numbers(value):
    with pytest.raises(UserError, match=r"^rate=.* must be a number above 0 and at most 2$"):
        checks.number("rate", value, above=0, most=2)


@pytest.mark.parametrize(
    "value",
    [[1, 2, 3], (1.0, 2.0, 3.0), np.arange(1, 4), torch.arange(1.0, 4.0)],
    ids=lambda value: type(value).__name__,
)
def test_vectors_pass(value):
    assert checks.vector("center", value, 3) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    "value", [None, "red", 5, [], [0, 0], [0, 0, 0, 0], [0, "a", 0], [0, math.nan, 0], {}]
)
def test_other_values_are_no_vectors(value):
    with pytest.raises(UserError, match=r"^center=.* must be a list of 3 numbers$"):
        checks.vector("center", value, 3)


def test_limits_of_vectors_and_intervals():
    assert checks.vector("background", [0, 0.5, 1], 3, least=0, most=1) == (0.0, 0.5, 1.0)
    with pytest.raises(UserError, match=r"background=\[9, 9, 9\] must be a list of 3 numbers from 0 to 1"):
        checks.vector("background", [9, 9, 9], 3, least=0, most=1)
    assert checks.interval("views.fov_degrees", [40, 40], least=1, most=170) == (40.0, 40.0)
    for wrong in ([50, 40], [0, 40], 40, [40], None):
        with pytest.raises(UserError, match="from 1 to 170, the lower one first"):
            checks.interval("views.fov_degrees", wrong, least=1, most=170)


def test_switches_choices_and_words():
    assert checks.switch("fp16", True) is True
    assert checks.choice("up", "-y", ["auto", "-y"]) == "-y"
    assert checks.words("name", "a clown") == "a clown"
    with pytest.raises(UserError, match="fp16=1 must be true or false"):
        checks.switch("fp16", 1)
    with pytest.raises(UserError, match="up=null must be one of auto, -y"):
        checks.choice("up", None, ["auto", "-y"])
    with pytest.raises(UserError, match="name= must be text"):
        checks.words("name", "  ")


def test_messages_are_one_short_line():
    with pytest.raises(UserError) as caught:
        checks.number("rate", "a\nb" * 1000)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 120
