"""PIE-Bench's layout: what is read, and one line for what is wrong."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gs_ssd.assets import DATA
from gs_ssd.errors import UserError
from gs_ssd.evaluation.pie_bench import (
    CATEGORIES,
    decode_mask,
    encode_mask,
    load_pie_bench,
    mark_difference,
    write_pie_bench,
)
from tests.evaluation.pie_layout import entry, write

PIXELS = 512 * 512
BORDER = 4 * 511


def test_reads_the_public_layout(tmp_path):
    entries = {"211000000000": entry(), "000000000001": entry("0_random_140/1.jpg", editing_type_id="0")}
    cake, second = load_pie_bench(write(tmp_path, entries))
    assert (cake.key, second.key) == ("211000000000", "000000000001")
    assert cake.source == "a round cake on a table"
    assert cake.target == "a square cake on a table"
    assert cake.instruction == "Make the cake square"
    assert (CATEGORIES[cake.category], CATEGORIES[second.category]) == ("add object", "random")
    assert cake.image == tmp_path / "annotation_images/2_add_object_80/1_artificial/211000000000.jpg"
    assert cake.mask.shape == (512, 512)
    assert cake.mask[100:103, 50:60].all()
    assert cake.mask.sum() == 30 + BORDER


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a slanted [rusty] bicycle", "a slanted rusty bicycle"),
        ("a photo of [two cats], sitting", "a photo of two cats, sitting"),
        ("[]a dog", "a dog"),
        ("the  [black]   sky ", "the black sky"),
    ],
)
def test_brackets_leave_the_sentence(tmp_path, written, read):
    (item,) = load_pie_bench(write(tmp_path, {"1": entry(editing_prompt=written)}))
    assert item.target == read


def test_the_border_may_always_change():
    mask = decode_mask([], name="mask")
    assert mask.sum() == BORDER
    assert mask[0].all() and mask[-1].all() and mask[:, 0].all() and mask[:, -1].all()
    assert not mask[1:-1, 1:-1].any()


def test_runs_go_on_in_the_next_row():
    mask = decode_mask([10 * 512 + 500, 20], name="mask")
    assert mask[10, 500:].all() and mask[11, :8].all()
    assert not mask[11, 8] and not mask[10, 499]


def test_a_mask_of_everything():
    assert decode_mask([0, PIXELS], name="mask").all()
    assert decode_mask([0, PIXELS + 5], name="mask").all()  # cut off, as the benchmark's own reader does


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), density=st.floats(0, 1))
def test_masks_round_trip(seed, density):
    mask = torch.rand(512, 512, generator=torch.Generator().manual_seed(seed)) < density
    mask[[0, -1]] = True
    mask[:, [0, -1]] = True
    assert torch.equal(decode_mask(encode_mask(mask), name="mask"), mask)


def test_what_is_written_is_read(tmp_path):
    picture = Image.new("RGB", (512, 512), (10, 200, 30))
    write_pie_bench(tmp_path, {"7": entry("a/b.jpg")}, {"a/b.jpg": picture})
    (item,) = load_pie_bench(tmp_path)
    assert item.mask.sum() == 30 + BORDER
    with Image.open(item.image) as read:
        assert read.format == "JPEG" and read.size == (512, 512)


@pytest.mark.parametrize(
    ("source", "target", "marked"),
    [
        ("a photo of a man", "a photo of a clown", ("a photo of a [man]", "a photo of a [clown]")),
        ("a photo of a man", "an old man", ("[a photo of a] man", "[an old] man")),
        ("a bicycle", "a rusty bicycle", ("a bicycle", "a [rusty] bicycle")),
        ("a a", "a", ("a [a]", "a")),
        ("same", "same", ("same", "same")),
    ],
)
def test_differences_are_marked(source, target, marked):
    assert mark_difference(source, target) == marked


def test_the_embedded_benchmark():
    items = load_pie_bench(DATA / "pie_bench")
    assert len(items) == 28
    assert {CATEGORIES[item.category] for item in items} == {
        *("change object", "add object", "change content", "change color", "change material"),
    }
    for item in items:
        assert 0.2 < item.mask.float().mean() < 0.5  # the head
        assert item.source != item.target


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"original_prompt": None}, "original_prompt is missing"),
        ({"editing_prompt": "  "}, "editing_prompt is '  '"),
        ({"editing_prompt": ["a cake"]}, r"editing_prompt is \['a cake'\]"),
        ({"original_prompt": "0_random_140/1.jpg"}, "original_prompt holds .* belongs into image_path"),
        ({"editing_prompt": "2"}, "editing_prompt holds '2', which belongs into editing_type_id"),
        ({"editing_prompt": "Make the cake square"}, "belongs into editing_instruction"),
        ({"editing_type_id": "11"}, "editing_type_id is '11', expected 0 to 9"),
        ({"editing_type_id": "cake cake"}, "editing_type_id is 'cake cake'"),
        ({"image_path": "a round cake"}, "image_path is 'a round cake'"),
        ({"mask": None}, "the mask is missing"),
        ({"mask": 5}, "the mask is no list"),
        ({"mask": [5]}, r"the mask is no list of \(start, length\) pairs"),
        ({"mask": [5, -1]}, "the mask is no list"),
        ({"mask": [5, 1.5]}, "the mask is no list"),
        ({"mask": [PIXELS, 1]}, "past the last of 512x512 pixels; it is of another size"),
        ({"mask": [0, 640 * 640]}, r"run \(0, 409600\) lies past the last of 512x512"),
    ],
)
def test_a_bad_entry_is_one_line(tmp_path, columns, message):
    write(tmp_path, {"000000000007": entry(**columns)})
    with pytest.raises(UserError, match=message) as error:
        load_pie_bench(tmp_path)
    assert "entry 000000000007" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_entry_without_a_mask(tmp_path):
    entries = {"7": entry()}
    del entries["7"]["mask"]
    write(tmp_path, entries)
    with pytest.raises(UserError, match="entry 7: the mask is missing"):
        load_pie_bench(tmp_path)


def table(**columns) -> dict:
    """Five entries, of which `columns` changes the last ones: as many as each column has values."""
    entries = {str(i): entry(f"{i}.jpg", original_prompt=f"a round cake, number {i}") for i in range(5)}
    for column, values in columns.items():
        for i, value in enumerate(values, start=len(entries) - len(values)):
            entries[str(i)][column] = value
    return entries


ODD = [
    ("editing_prompt", "Make the cake square", "editing_instruction"),
    ("original_prompt", "add a candle", "editing_instruction"),
    ("editing_prompt", "cake cake", "blended_word"),
    ("original_prompt", "0_random_140/1.jpg", "image_path"),
    ("editing_prompt", "2", "editing_type_id"),
]


@pytest.mark.parametrize(("column", "text", "other"), ODD)
def test_a_column_mistaken_for_another(tmp_path, column, text, other):
    write(tmp_path, table(**{column: [text] * 3}))
    with pytest.raises(UserError) as error:
        load_pie_bench(tmp_path)
    expected = f"entry 2: {column} holds '{text}', which belongs into {other}, as in 3 of 5 entries"
    assert expected in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("column", "text", "other"), ODD)
def test_a_few_odd_prompts_are_taken_as_they_are(tmp_path, column, text, other):
    *_, last = load_pie_bench(write(tmp_path, table(**{column: [text] * 2})))
    assert (last.source if column == "original_prompt" else last.target) == text


@pytest.mark.parametrize("column", ["original_prompt", "editing_prompt"])
@pytest.mark.parametrize("other", ["editing_instruction", "blended_word"])
def test_swapped_columns(tmp_path, column, other):
    """The prompt then stands in the other column."""
    entries = table()
    for columns in entries.values():
        columns[column], columns[other] = columns[other], columns[column]
    write(tmp_path, entries)
    with pytest.raises(UserError, match=f"{column} holds .* belongs into {other}, as in 5 of 5 entries"):
        load_pie_bench(tmp_path)


@pytest.mark.parametrize("written", [None, "", 3])
def test_an_instruction_is_optional(tmp_path, written):
    (item,) = load_pie_bench(write(tmp_path, {"1": entry(editing_instruction=written)}))
    assert item.instruction is None


def test_no_mapping_file(tmp_path):
    with pytest.raises(UserError, match=r"holds no mapping_file\.json"):
        load_pie_bench(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3"])
def test_a_mapping_file_that_is_none(tmp_path, text):
    (tmp_path / "mapping_file.json").write_text(text)
    with pytest.raises(UserError, match=r"mapping_file\.json"):
        load_pie_bench(tmp_path)


def test_an_entry_that_is_none(tmp_path):
    (tmp_path / "mapping_file.json").write_text(json.dumps({"1": "a cake"}))
    with pytest.raises(UserError, match="entry 1 is str"):
        load_pie_bench(tmp_path)


def test_missing_images_are_counted_and_named(tmp_path):
    write(tmp_path, {str(i): entry(f"0_random_140/{i}.jpg") for i in range(4)})
    for i in (2, 3):
        (tmp_path / f"annotation_images/0_random_140/{i}.jpg").unlink()
    with pytest.raises(UserError, match=r"2 of 4 images are missing; the first is .*/2\.jpg"):
        load_pie_bench(tmp_path)


def test_an_image_that_is_none(tmp_path):
    write(tmp_path, {"1": entry("a.jpg")})
    (tmp_path / "annotation_images/a.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"a\.jpg is no image"):
        load_pie_bench(tmp_path)


def test_an_image_that_was_cut_off(tmp_path):
    write(tmp_path, {"1": entry("a.jpg")})
    path = tmp_path / "annotation_images/a.jpg"
    path.write_bytes(path.read_bytes()[:-500])
    with Image.open(path) as header:
        assert header.size == (512, 512)
    with pytest.raises(UserError, match=r"a\.jpg is no image that can be read"):
        load_pie_bench(tmp_path)


@pytest.mark.parametrize("size", [(640, 512), (256, 256)])
def test_an_image_of_another_size_than_its_mask(tmp_path, size):
    write(tmp_path, {"1": entry("a.jpg")}, size=size)
    with pytest.raises(UserError, match=f"{size[0]}x{size[1]} pixels, its mask 512x512"):
        load_pie_bench(tmp_path)
