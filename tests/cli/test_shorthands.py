"""The short forms users type, and what a mistyped one answers."""

import pytest

from gs_ssd.errors import UserError
from gs_ssd.session.shorthands import dotted_keys, expand, explain, options


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["scene=face"], ["diffusion=embedded", "scene=face"]),
        (["scene=my.ply"], ["diffusion=embedded", "scene=file", "scene.path='my.ply'"]),
        (["scene.path=my scene.ply"], ["diffusion=embedded", "scene=file", "scene.path='my scene.ply'"]),
        (["scene=elder", "scene.path=x.ply"], ["diffusion=embedded", "scene=elder", "scene.path='x.ply'"]),
        (
            ["prompt.target=it's, a clown"],
            ["diffusion=embedded", "prompt=custom", r"prompt.target='it\'s, a clown'"],
        ),
        (["diffusion=./sd"], ["diffusion=folder", "diffusion.path='./sd'"]),
        (["diffusion=sd15"], ["diffusion=sd15"]),
        (["diffusion=auto"], ["diffusion=embedded"]),
    ],
)
def test_short_forms(typed, expected):
    assert expand(typed, cuda=False) == expected


def test_auto_takes_stable_diffusion_on_a_gpu():
    assert expand([], cuda=True) == ["diffusion=sd21"]
    assert expand(["device=cpu"], cuda=True) == ["diffusion=embedded", "device=cpu"]


def test_options_are_the_files():
    assert {"ssd", "dds", "csd", "sds", "nfsd", "pds"} <= set(options("guidance"))


def test_unknown_names_say_what_exists():
    error = Exception("In 'train': Could not find 'scene/fase'\n\nAvailable options in 'scene':\n\tface")
    assert explain(error, []).startswith("no scene is called 'fase' (did you mean face?); there are: ")
    keys = dotted_keys({"steps": 1, "guidance": {"w_p": 1.0, "w_t": 2.0}})
    error = Exception(
        "Could not override 'stepz'.\nTo append\nKey 'stepz' is not in struct\n full_key: stepz"
    )
    assert (
        explain(error, keys) == "no setting is called stepz (did you mean steps?); there are: steps, guidance"
    )
    error = Exception(
        "Could not override 'guidance.w_q'.\nKey 'w_q' is not in struct\n full_key: guidance.w_q"
    )
    assert "there are: guidance.w_p, guidance.w_t" in explain(error, keys)


@pytest.mark.parametrize("typed", ["~optimizer", "~steps", "~nothing", "~scene.views=5"])
def test_settings_can_not_be_removed(typed):
    """Without some of them nothing runs; it was a traceback."""
    with pytest.raises(UserError, match=r"^~.*: settings can't be removed; [\w.]+=null turns off"):
        expand([typed], cuda=False)


def test_a_name_that_no_file_can_have_is_a_name():
    """It was an OSError of the file system."""
    for group in ("scene", "diffusion"):
        assert expand([f"{group}={'x' * 300}", "device=cpu"], cuda=False)[-2] == f"{group}={'x' * 300}"
