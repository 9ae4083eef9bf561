"""Round trips, the exact public layouts, and real files."""

from __future__ import annotations

import gzip
import time

import numpy as np
import pytest
import torch

from gs_ssd.scene import Gaussians, load_gaussians, save_gaussians
from gs_ssd.scene.formats import spz
from tests.scene.layouts import REST, SCENES, inria_columns, ply_bytes, splat_bytes
from tests.synthetic import random_gaussians

DEGREES = [0, 1, 2, 3]


def assert_equal(got: Gaussians, want: Gaussians) -> None:
    for name, value in want.tensors().items():
        assert torch.equal(getattr(got, name), value), name


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("suffix", [".ply", ".pt"])
def test_round_trip_is_bit_exact(tmp_path, degree, suffix):
    gaussians = random_gaussians(sh_degree=degree)
    save_gaussians(gaussians, tmp_path / f"scene{suffix}")
    assert_equal(load_gaussians(tmp_path / f"scene{suffix}"), gaussians)


@pytest.mark.parametrize("degree", DEGREES)
def test_ply_bytes_are_the_inria_layout(tmp_path, degree):
    gaussians = random_gaussians(7, sh_degree=degree)
    save_gaussians(gaussians, tmp_path / "scene.ply")
    data = (tmp_path / "scene.ply").read_bytes()
    assert data == ply_bytes(inria_columns(gaussians))
    assert data.count(b"f_rest_") == REST[degree]
    assert b"comment" not in data


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_any_property_order_and_byte_order(tmp_path, kind):
    gaussians = random_gaussians(20, sh_degree=2)
    columns = inria_columns(gaussians) | {"segment_id": np.ones(20, dtype=np.float32)}
    shuffled = dict(reversed(columns.items()))
    (tmp_path / "scene.ply").write_bytes(ply_bytes(shuffled, kind))
    assert_equal(load_gaussians(tmp_path / "scene.ply"), gaussians)


def test_ply_without_normals_in_double_precision(tmp_path):
    gaussians = random_gaussians(20)
    columns = {
        name: value for name, value in inria_columns(gaussians).items() if name not in ("nx", "ny", "nz")
    }
    (tmp_path / "scene.ply").write_bytes(ply_bytes(columns, dtype="double"))
    assert_equal(load_gaussians(tmp_path / "scene.ply"), gaussians)


def test_ply_is_known_by_its_first_bytes(tmp_path):
    gaussians = random_gaussians(5)
    (tmp_path / "scene.splat").write_bytes(ply_bytes(inria_columns(gaussians)))
    assert_equal(load_gaussians(tmp_path / "scene.splat"), gaussians)


def test_windows_line_ends_and_comments(tmp_path):
    data = ply_bytes(inria_columns(random_gaussians(5)), "ascii")
    with_comment = data.replace(b"element", b"comment made by hand\nobj_info none\nelement", 1)
    (tmp_path / "scene.ply").write_bytes(with_comment.replace(b"\n", b"\r\n"))
    assert_equal(load_gaussians(tmp_path / "scene.ply"), random_gaussians(5))


def test_splat_records(tmp_path):
    gaussians = random_gaussians(50, sh_degree=0)
    save_gaussians(gaussians, tmp_path / "scene.splat")
    assert (tmp_path / "scene.splat").read_bytes() == splat_bytes(gaussians)


def test_splat_round_trip(tmp_path):
    gaussians = random_gaussians(sh_degree=0)
    save_gaussians(gaussians, tmp_path / "scene.splat")
    got = load_gaussians(tmp_path / "scene.splat")
    assert torch.equal(got.means, gaussians.means)
    torch.testing.assert_close(got.scales, gaussians.scales, atol=1e-6, rtol=0)
    torch.testing.assert_close(got.rgb, gaussians.rgb, atol=0.5 / 255 + 1e-6, rtol=0)
    torch.testing.assert_close(
        got.opacities.sigmoid(), gaussians.opacities.sigmoid(), atol=0.5 / 255 + 1e-6, rtol=0
    )
    cosine = torch.nn.functional.cosine_similarity(got.quats, gaussians.quats)
    assert cosine.min() > 0.999


def test_splat_alpha_of_0_and_255_stay_finite(tmp_path):
    gaussians = random_gaussians(2, sh_degree=0)
    gaussians.opacities[:] = torch.tensor([-30.0, 30.0])
    save_gaussians(gaussians, tmp_path / "a.splat")
    again = load_gaussians(tmp_path / "a.splat")
    save_gaussians(again, tmp_path / "b.splat")
    assert again.opacities.isfinite().all()
    assert (tmp_path / "a.splat").read_bytes()[27::32] == b"\x00\xff"
    assert (tmp_path / "b.splat").read_bytes()[27::32] == b"\x00\xff"


def test_splat_warns_that_view_dependence_is_lost(tmp_path):
    with pytest.warns(UserWarning, match="SH degree 1 becomes 0"):
        save_gaussians(random_gaussians(sh_degree=1), tmp_path / "scene.splat")


@pytest.mark.parametrize("degree", DEGREES)
def test_compressed_ply_keeps_order_and_colour(tmp_path, degree):
    gaussians = random_gaussians(600, sh_degree=degree)
    save_gaussians(gaussians, tmp_path / "scene.compressed.ply")
    (tmp_path / "scene.compressed.ply").rename(tmp_path / "scene.ply")  # known by its header, not its name
    got = load_gaussians(tmp_path / "scene.ply")
    assert got.sh_degree == degree
    for name, tolerance in {"means": 5e-3, "scales": 5e-3, "sh0": 0.03, "shN": 0.02}.items():
        torch.testing.assert_close(getattr(got, name), getattr(gaussians, name), atol=tolerance, rtol=0)
    torch.testing.assert_close(got.opacities.sigmoid(), gaussians.opacities.sigmoid(), atol=0.005, rtol=0)
    cosine = torch.nn.functional.cosine_similarity(got.quats, gaussians.quats).abs()
    assert cosine.min() > 0.999


@pytest.mark.parametrize("degree", DEGREES)
def test_spz_round_trip(tmp_path, degree):
    gaussians = random_gaussians(sh_degree=degree)
    save_gaussians(gaussians, tmp_path / "scene.spz")
    got = load_gaussians(tmp_path / "scene.spz")
    assert got.sh_degree == degree
    for name, tolerance in {"means": 1e-5, "scales": 0.04, "sh0": 0.02, "shN": 0.07}.items():
        torch.testing.assert_close(getattr(got, name), getattr(gaussians, name), atol=tolerance, rtol=0)
    torch.testing.assert_close(got.opacities.sigmoid(), gaussians.opacities.sigmoid(), atol=0.005, rtol=0)
    assert torch.nn.functional.cosine_similarity(got.quats, gaussians.quats).abs().min() > 0.999


def test_spz_axes_are_right_up_back(tmp_path):
    gaussians = random_gaussians(3, sh_degree=0)
    gaussians.means[:] = torch.tensor([[1.0, 2.0, 3.0], [0, 0, 0], [-1, 0, 0]])
    save_gaussians(gaussians, tmp_path / "scene.spz")
    raw = gzip.decompress((tmp_path / "scene.spz").read_bytes())
    values = [int.from_bytes(raw[16 + 3 * i : 19 + 3 * i], "little", signed=True) for i in range(3)]
    assert [value / 2 ** raw[13] for value in values] == [1.0, -2.0, -3.0]


def test_the_turn_of_spz_keeps_the_colours():
    from gsplat.cuda._torch_impl import _spherical_harmonics

    gaussians = random_gaussians(50, sh_degree=3)
    directions = torch.nn.functional.normalize(gaussians.means, dim=1)
    turned = spz._turned(gaussians)
    turned_directions = torch.nn.functional.normalize(turned.means, dim=1)
    want = _spherical_harmonics(3, directions, gaussians.sh)
    torch.testing.assert_close(_spherical_harmonics(3, turned_directions, turned.sh), want)
    assert_equal(spz._turned(turned), gaussians)


def test_splatfacto_checkpoint(tmp_path):
    gaussians = random_gaussians(sh_degree=3)
    state = {
        "means": gaussians.means,
        "scales": gaussians.scales,
        "quats": gaussians.quats,
        "opacities": gaussians.opacities[:, None],
        "features_dc": gaussians.sh0[:, 0],
        "features_rest": gaussians.shN,
    }
    pipeline = {f"_model.gauss_params.{name}": value for name, value in state.items()}
    pipeline["_model.camera_optimizer.pose_adjustment"] = torch.zeros(3)
    torch.save({"step": 29999, "pipeline": pipeline, "optimizers": {}}, tmp_path / "step.ckpt")
    assert_equal(load_gaussians(tmp_path / "step.ckpt"), gaussians)


def test_gsplat_checkpoint_of_parameters(tmp_path):
    gaussians = random_gaussians(sh_degree=2)
    splats = torch.nn.ParameterDict(gaussians.tensors()).state_dict()
    torch.save({"step": 6999, "splats": splats}, tmp_path / "ckpt.pt")
    got = load_gaussians(tmp_path / "ckpt.pt")
    assert_equal(got, gaussians)
    assert not got.means.requires_grad


def test_saving_replaces_the_file_whole_and_leaves_nothing_else(tmp_path):
    (tmp_path / "scene.ply").write_text("old")
    gaussians = random_gaussians()
    gaussians.means.requires_grad_(True)
    save_gaussians(gaussians, tmp_path / "scene.ply")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.ply"]
    assert_equal(load_gaussians(tmp_path / "scene.ply"), gaussians.clone())


@pytest.mark.parametrize(
    ("name", "count"),
    [("plant", 113_648), ("demosthenes_100k", 100_000), ("demosthenes_10k", 10_000), ("koala_10k", 10_000)],
)
def test_real_splats(tmp_path, name, count):
    source = SCENES / f"{name}.splat"
    if not source.exists():
        pytest.skip(f"{source.name} is not part of the repository")
    started = time.perf_counter()
    gaussians = load_gaussians(source)
    assert time.perf_counter() - started < 2
    assert len(gaussians) == count
    save_gaussians(gaussians, tmp_path / "again.splat")
    old, new = (
        np.frombuffer(file.read_bytes(), "u1").reshape(-1, 32) for file in (source, tmp_path / "again.splat")
    )
    assert np.array_equal(old[:, :12], new[:, :12])  # positions
    assert np.array_equal(old[:, 24:28], new[:, 24:28])  # colours
    assert np.abs(old[:, 28:].astype(int) - new[:, 28:]).max() <= 1  # rotations: normalised before rounding
    save_gaussians(gaussians, tmp_path / "scene.ply")
    assert_equal(load_gaussians(tmp_path / "scene.ply"), gaussians)
