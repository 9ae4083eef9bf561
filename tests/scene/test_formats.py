"""Round trips, the exact public layouts, and real files."""

from __future__ import annotations

import gzip
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from gs_ssd.errors import UserError
from gs_ssd.scene import Gaussians, load_gaussians, save_gaussians
from gs_ssd.scene.formats import spz
from tests.scene.layouts import REST, SCENES, extended_spz, inria_columns, ply_bytes, splat_bytes
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


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("degree", DEGREES)
def test_spz_round_trip(tmp_path, degree, version):
    gaussians = random_gaussians(sh_degree=degree)
    spz.write(gaussians, tmp_path / "scene.spz", version=version)
    got = load_gaussians(tmp_path / "scene.spz")
    assert got.sh_degree == degree
    for name, tolerance in {
        "means": 1e-6,
        "scales": 1 / 32 + 1e-5,
        "sh0": 0.0132,
        "shN": 1 / 256 + 1e-6,
    }.items():
        torch.testing.assert_close(getattr(got, name), getattr(gaussians, name), atol=tolerance, rtol=0)
    torch.testing.assert_close(
        got.opacities.sigmoid(), gaussians.opacities.sigmoid(), atol=0.5 / 255 + 1e-6, rtol=0
    )
    assert torch.nn.functional.cosine_similarity(got.quats, gaussians.quats).abs().min() > 0.9999
    spz.write(got, tmp_path / "again.spz", version=version)
    again = load_gaussians(tmp_path / "again.spz")
    for name in ("means", "scales", "opacities", "sh0", "shN"):
        torch.testing.assert_close(getattr(again, name), getattr(got, name), atol=1e-6, rtol=0)


@pytest.mark.parametrize("version", [3, 4])
def test_spz_is_what_gsply_reads_and_writes(tmp_path, version):
    """gsply doesn't turn the axes; apart from that its values are ours."""
    gsply = pytest.importorskip("gsply")
    path = tmp_path / "scene.spz"
    spz.write(random_gaussians(sh_degree=3), path, version=version)
    theirs, ours = gsply.read_spz(path), load_gaussians(path, spz_axes="RDF")
    for name, value in ours.tensors().items():
        want = torch.from_numpy(np.asarray(getattr(theirs, name))).reshape(value.shape)
        torch.testing.assert_close(value, want, atol=1e-5, rtol=0)
    gsply.write_spz(path, theirs, version=version, fractional_bits=20)
    again = load_gaussians(path, spz_axes="RDF")
    for name in ("means", "scales", "opacities", "sh0", "shN"):
        torch.testing.assert_close(getattr(again, name), getattr(ours, name), atol=1e-6, rtol=0)


def test_spz_of_version_1_and_2(tmp_path):
    """Half-float or 24-bit positions, three bytes of rotation; written by hand from the format's page."""
    for version in (1, 2):
        positions = (
            np.array([1.5, -2.0, 3.0], "<f2").tobytes()
            if version == 1
            else b"".join((value & 0xFFFFFF).to_bytes(3, "little") for value in (6144, -8192, 12288))
        )
        body = positions + bytes([255]) + bytes([127] * 3) + bytes([160, 80, 96]) + bytes([255, 127, 127])
        header = b"NGSP" + version.to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes([0, 12, 1, 0])
        (tmp_path / "old.spz").write_bytes(gzip.compress(header + body))
        got = load_gaussians(tmp_path / "old.spz")
        assert got.means.tolist() == [[1.5, 2.0, -3.0]]
        assert got.scales.tolist() == [[0.0, -5.0, -4.0]]
        assert got.antialiased
        torch.testing.assert_close(got.quats, torch.tensor([[0.0, 1, 0, 0]]), atol=0.01, rtol=0)


def test_spz_of_degree_4_keeps_degree_3(tmp_path):
    body = bytes(9) + bytes([200]) + bytes(3) + bytes(3) + bytes(4) + bytes(range(100, 172))
    header = b"NGSP" + (3).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes([4, 12, 0, 0])
    (tmp_path / "scene.spz").write_bytes(gzip.compress(header + body))
    with pytest.warns(UserWarning, match="harmonics of degree 4 are left out"):
        got = load_gaussians(tmp_path / "scene.spz")
    assert got.shN.shape == (1, 15, 3)


def test_spz_says_what_it_can_not_hold(tmp_path):
    gaussians = random_gaussians(sh_degree=1)
    far = replace(gaussians, means=gaussians.means + torch.tensor([1e6, 0, 0]))
    with pytest.warns(
        UserWarning, match=r"rounds positions to 0\.125 units, while half of the Gaussians are smaller"
    ):
        save_gaussians(far, tmp_path / "scene.spz")
    assert (load_gaussians(tmp_path / "scene.spz").means - far.means).abs().max() <= 0.0625
    farther = replace(gaussians, means=gaussians.means + 5e6)
    with pytest.raises(
        UserError, match=r"\.spz holds positions up to 4,194,303 units, the scene reaches 5e\+06"
    ):
        save_gaussians(farther, tmp_path / "scene.spz")
    tiny, bright = gaussians.clone(), gaussians.clone()
    tiny.scales[:3] = -17.5
    bright.sh0[5], bright.shN[6:8] = 9.0, 2.0
    with pytest.warns(UserWarning, match=r"log scales from -10\.00 to 5\.94, those of 3 Gaussians are cut"):
        save_gaussians(tiny, tmp_path / "scene.spz")
    with pytest.warns(UserWarning) as caught:
        save_gaussians(bright, tmp_path / "scene.spz")
    assert ["colours" in str(w.message) or "harmonics" in str(w.message) for w in caught] == [True, True]


@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".spz", ".sog", ".pt"])
@pytest.mark.parametrize("antialiased", [False, True])
def test_antialiased_scenes_stay_antialiased(tmp_path, suffix, antialiased):
    if suffix == ".sog":
        pytest.importorskip("gaussforge")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scene = replace(random_gaussians(), antialiased=antialiased)
        save_gaussians(scene, tmp_path / f"scene{suffix}")
    assert load_gaussians(tmp_path / f"scene{suffix}").antialiased is antialiased


def test_losses_are_said(tmp_path):
    scene = replace(random_gaussians(5), antialiased=True)
    columns = inria_columns(scene) | {"filter_3D": np.ones(5, dtype=np.float32)}
    (tmp_path / "scene.ply").write_bytes(ply_bytes(columns))
    scene = replace(load_gaussians(tmp_path / "scene.ply"), antialiased=True)
    with pytest.warns(UserWarning) as caught:
        save_gaussians(scene, tmp_path / "scene.splat")
    assert [str(w.message).split(":")[0].split(";")[0] for w in caught] == [
        ".splat holds no view-dependent colour",
        ".splat holds no tag of antialiased scenes",
        ".splat holds no columns filter_3D",
    ]


@pytest.mark.parametrize("degree", DEGREES)
def test_sog_round_trip(tmp_path, degree):
    """The order is another one, so values are compared sorted by position."""
    pytest.importorskip("gaussforge")
    gaussians = random_gaussians(2000, sh_degree=degree)
    with pytest.warns(UserWarning, match="another order"):
        save_gaussians(gaussians, tmp_path / "scene.sog")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.sog"]
    got = load_gaussians(tmp_path / "scene.sog")
    distance, index = cKDTree(got.means.numpy()).query(gaussians.means.numpy())
    got = got[torch.from_numpy(index)]
    assert len(np.unique(index)) == 2000 and distance.max() < 1e-4
    for name, tolerance in {"scales": 0.05, "sh0": 0.1}.items():
        torch.testing.assert_close(getattr(got, name), getattr(gaussians, name), atol=tolerance, rtol=0)
    torch.testing.assert_close(
        got.opacities.sigmoid(), gaussians.opacities.sigmoid(), atol=0.5 / 255 + 1e-6, rtol=0
    )
    assert torch.nn.functional.cosine_similarity(got.quats, gaussians.quats).abs().min() > 0.999
    assert degree == 0 or (got.shN - gaussians.shN).abs().mean() < 0.05


def test_sog_without_gaussforge_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gaussforge", None)
    with pytest.warns() as _, pytest.raises(UserError, match=r'pip install "gs_ssd\[sog\]"'):
        warnings.warn("nothing else", stacklevel=1)
        save_gaussians(random_gaussians(), tmp_path / "scene.sog")


@pytest.mark.parametrize("degree", DEGREES)
def test_compressed_ply_is_what_gsply_reads_and_writes(tmp_path, degree):
    gsply = pytest.importorskip("gsply")
    gaussians = random_gaussians(600, sh_degree=degree)
    path = tmp_path / "scene.compressed.ply"
    save_gaussians(gaussians, path)
    arrays = {name: value.numpy() for name, value in gaussians.tensors().items()}
    arrays |= {"shN": arrays["shN"] if degree else None, "sh0": arrays["sh0"][:, 0]}
    want = gsply.compress_to_bytes(arrays.pop("means"), **arrays)
    end = b"end_header\n"
    assert path.read_bytes().split(end, 1)[1] == want.split(end, 1)[1]
    theirs, ours = gsply.decompress_from_bytes(want), load_gaussians(path)
    for name, value in ours.tensors().items():
        if value.numel():
            want_value = torch.from_numpy(np.asarray(getattr(theirs, name))).reshape(value.shape)
            torch.testing.assert_close(value, want_value, atol=1e-6, rtol=0)


def test_compressed_ply_keeps_its_comments(tmp_path):
    path = tmp_path / "scene.compressed.ply"
    save_gaussians(random_gaussians(300, sh_degree=1), path)
    data = path.read_bytes().replace(b"element chunk", b"comment made by hand\nelement chunk", 1)
    path.write_bytes(data)
    save_gaussians(load_gaussians(path), tmp_path / "again.compressed.ply")
    assert b"\ncomment made by hand\nelement chunk" in (tmp_path / "again.compressed.ply").read_bytes()
    save_gaussians(load_gaussians(path), tmp_path / "plain.ply")
    plain = (tmp_path / "plain.ply").read_bytes()
    assert b"comment made by hand" in plain and b"property float nx" in plain


@pytest.mark.slow
def test_the_first_compressed_ply_needs_no_compiler(tmp_path):
    """Reading one took 10 s in a fresh process while a library compiled its kernels."""
    save_gaussians(random_gaussians(1), tmp_path / "scene.compressed.ply")
    script = (
        "import time, sys\nfrom gs_ssd.scene import load_gaussians\nstarted = time.process_time()\n"
        "load_gaussians(sys.argv[1])\nprint(time.process_time() - started)\nassert 'numba' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "scene.compressed.ply"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) < 1


def test_spz_axes_are_right_up_back(tmp_path):
    gaussians = random_gaussians(3, sh_degree=0)
    gaussians.means[:] = torch.tensor([[1.0, 2.0, 3.0], [0, 0, 0], [-1, 0, 0]])
    spz.write(gaussians, tmp_path / "scene.spz", version=3)
    raw = gzip.decompress((tmp_path / "scene.spz").read_bytes())
    values = [int.from_bytes(raw[16 + 3 * i : 19 + 3 * i], "little", signed=True) for i in range(3)]
    assert [value / 2 ** raw[13] for value in values] == [1.0, -2.0, -3.0]


def covariances(gaussians: Gaussians) -> np.ndarray:
    axes = Rotation.from_quat(np.roll(gaussians.quats.numpy(), -1, axis=1)).as_matrix()
    axes = axes * gaussians.scales.exp().numpy()[:, None]
    return axes @ axes.transpose(0, 2, 1)


@pytest.mark.parametrize("axes", spz.AXES)
def test_the_turn_of_spz_keeps_shapes_and_colours(axes):
    """What is seen along a direction is seen along the turned or mirrored one."""
    from gsplat.cuda._torch_impl import _spherical_harmonics

    gaussians = random_gaussians(50, sh_degree=3)
    signs = torch.tensor([1.0 if theirs == ours else -1.0 for theirs, ours in zip(axes, "RDF")])
    directions = torch.nn.functional.normalize(gaussians.means, dim=1)
    turned = spz._turned(gaussians, axes)
    torch.testing.assert_close(turned.means, gaussians.means * signs, rtol=0, atol=0)
    want = _spherical_harmonics(3, directions, gaussians.sh)
    torch.testing.assert_close(_spherical_harmonics(3, directions * signs, turned.sh), want)
    mirror = np.diag(signs.numpy())
    np.testing.assert_allclose(covariances(turned), mirror @ covariances(gaussians) @ mirror, atol=1e-6)
    assert_equal(spz._turned(turned, axes), gaussians)


NAMES_AXES = 0xADBE0003  # Adobe's extension of Niantic's format


@pytest.mark.parametrize("number, axes", [(0, "RUB"), (4, "RUB"), (6, "RDF"), (8, "RUF")])
def test_axes_that_a_spz_names_are_its_own(tmp_path, number, axes):
    gaussians = random_gaussians(20, sh_degree=1)
    path = tmp_path / "scene.spz"
    spz.write(gaussians, path, axes=axes)
    want = load_gaussians(path, spz_axes=axes)
    camera = (0xADBE0002, bytes(12))  # another extension before it
    path.write_bytes(extended_spz(path.read_bytes(), camera, (NAMES_AXES, number.to_bytes(4, "little"))))
    assert_equal(load_gaussians(path, spz_axes="RUB"), want)
    if number:
        assert_equal(load_gaussians(path, spz_axes="LDB"), want)


def test_axes_of_a_spz_that_are_not_read(tmp_path):
    path = tmp_path / "scene.spz"
    save_gaussians(random_gaussians(5, sh_degree=0), path)
    data = path.read_bytes()
    path.write_bytes(extended_spz(data, (NAMES_AXES, (16).to_bytes(4, "little"))))
    with pytest.raises(UserError, match="its axes are number 16, known are 1 to 8"):
        load_gaussians(path)
    for odd in ((NAMES_AXES, b""), (7, bytes(3))):  # cut off, and of an odd length
        path.write_bytes(extended_spz(data, odd))
        assert len(load_gaussians(path)) == 5


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
    started = time.process_time()
    gaussians = load_gaussians(source)
    assert time.process_time() - started < 2
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
