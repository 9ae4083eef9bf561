"""The CPU rasteriser against the oracle, against finite differences, and at its edges."""

import pytest
import torch

from gs_ssd.render import Render, rasterization, render
from gs_ssd.render.rasterization import _with_leaves, activated_opacities
from gs_ssd.scene import Cameras
from gs_ssd.scene.gaussians import Rows
from tests.render import oracle
from tests.render.scenes import HEIGHT, WIDTH, gaussians, views, wide_gaussians
from tests.synthetic import random_gaussians

ALL = ("means", "quats", "scales", "opacities", "colors", "backgrounds")


def run(function, inputs, dtype, views_, size=(WIDTH, HEIGHT), **options):
    """Images, alphas and the gradients of random cotangents on both, as float64."""
    leaves = {name: value.detach().to(dtype, copy=True).requires_grad_() for name, value in inputs.items()}
    viewmats, Ks = (x.to(dtype) for x in views_)
    images, alphas, info = function(
        **leaves, viewmats=viewmats, Ks=Ks, width=size[0], height=size[1], **options
    )
    info["means2d"].retain_grad()
    generator = torch.Generator().manual_seed(7)
    loss = sum((x * torch.randn(x.shape, generator=generator).to(x)).sum() for x in (images, alphas))
    loss.backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items()} | {"means2d": info["means2d"].grad}
    return images.detach().double(), alphas.detach().double(), gradients


def compare(inputs, views_, size=(WIDTH, HEIGHT), **options):
    images, alphas, gradients = run(rasterization, inputs, torch.float32, views_, size, **options)
    oracle_images, oracle_alphas, oracle_gradients = run(
        oracle.rasterization, inputs, torch.float64, views_, size, **options
    )
    assert (images - oracle_images).abs().max() < 1e-4 * max(1, oracle_images.abs().max())
    assert (alphas - oracle_alphas).abs().max() < 1e-4
    for name, expected in oracle_gradients.items():
        got = gradients[name]
        if expected is None or got is None:
            assert got is None or not got.any()
            continue
        assert (got.double() - expected).abs().max() <= 1e-3 * expected.abs().max(), name


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_matches_the_oracle_with_harmonics(degree):
    inputs = gaussians(150, seed=degree) | {"backgrounds": torch.rand(2, 3)}
    compare(inputs, views(2), sh_degree=degree)


@pytest.mark.parametrize("mode", ["D", "ED", "RGB+D", "RGB+ED"])
def test_matches_the_oracle_in_depth(mode):
    inputs = gaussians(150, 4, seed=5) | {"backgrounds": torch.rand(2, 3)}
    compare(inputs, views(2), sh_degree=1, render_mode=mode)


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_matches_the_oracle_with_plain_colors(channels):
    inputs = gaussians(100, seed=9) | {
        "colors": torch.rand(100, channels),
        "backgrounds": torch.rand(2, channels),
    }
    compare(inputs, views(2))
    compare(inputs | {"colors": torch.rand(2, 100, channels)}, views(2), eps2d=0.1)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 33), (64, 5)])
def test_any_image_size(size):
    compare(gaussians(80, 1, seed=2), views(1, *size), size, sh_degree=0)


def test_opaque_layers_stop_at_the_same_gaussian():
    """Many nearly opaque layers: the 0.999 clamp and the stop at T <= 1e-4 both act, in both passes."""
    inputs = wide_gaussians(40, 1) | {"opacities": torch.linspace(0.5, 1.0, 40)}
    compare(inputs, views(2), sh_degree=0)


@pytest.mark.parametrize("degree", [0, 2])
def test_matches_the_oracle_antialiased(degree):
    """Small Gaussians, whose opacity the compensation changes by much."""
    inputs = gaussians(150, seed=degree) | {"backgrounds": torch.rand(2, 3)}
    inputs["scales"] = inputs["scales"] / 4
    compare(inputs, views(2), sh_degree=degree, rasterize_mode="antialiased", eps2d=0.5)
    classic, antialiased = (
        rasterization(
            **{k: v for k, v in inputs.items() if k != "backgrounds"}, viewmats=views(2)[0], Ks=views(2)[1],
            width=WIDTH, height=HEIGHT, sh_degree=degree, rasterize_mode=mode,
        )
        for mode in ("classic", "antialiased")
    )  # fmt: skip
    assert antialiased[1].mean() < 0.9 * classic[1].mean()
    assert (antialiased[2]["opacities"] <= classic[2]["opacities"]).all()


def test_antialiasing_keeps_the_weight_of_a_splat():
    """Without compensation the blur adds weight to what is smaller than a pixel; with it the sum over pixels stays."""
    parameters = {name: value.float() for name, value in wide_gaussians(1, 1).items()}
    parameters["opacities"] = torch.tensor([0.5])
    viewmats, Ks = views(1)
    sums = []
    for eps2d in (0.3, 2.0):
        scales = torch.full((1, 3), 0.1)
        options = {"viewmats": viewmats, "Ks": Ks, "width": WIDTH, "height": HEIGHT, "sh_degree": 0}
        _, alpha, _ = rasterization(
            **(parameters | {"scales": scales}), **options, eps2d=eps2d, rasterize_mode="antialiased"
        )
        sums.append(alpha.sum())
    assert abs(sums[1] / sums[0] - 1) < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["classic", "antialiased"])
def test_backward_is_the_derivative_of_forward(mode):
    parameters = wide_gaussians(5, 4)
    if mode == "antialiased":
        parameters["scales"] /= 4
    viewmats, Ks = views(2, 18, 13, dtype=torch.float64)

    def function(means, quats, scales, opacities, colors, backgrounds):
        return rasterization(
            means, quats, scales, opacities, colors, viewmats, Ks, 18, 13,
            sh_degree=1, backgrounds=backgrounds, render_mode="RGB+ED", rasterize_mode=mode,
        )[:2]  # fmt: skip

    inputs = [parameters[name] for name in ALL[:5]] + [torch.rand(2, 3, dtype=torch.float64)]
    assert torch.autograd.gradcheck(function, [x.requires_grad_() for x in inputs], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [(64, 48), (61, 45)])
@pytest.mark.parametrize("used", [0, 1])
def test_what_the_loss_does_not_look_at_counts_as_zeros(used, size):
    def gradients(cotangents):
        inputs = gaussians(150, 4, seed=6) | {"backgrounds": torch.rand(1, 3)}
        leaves = {name: value.float().requires_grad_() for name, value in inputs.items()}
        viewmats, Ks = (x.float() for x in views(1, *size))
        out = rasterization(**leaves, viewmats=viewmats, Ks=Ks, width=size[0], height=size[1], sh_degree=1)
        torch.autograd.backward(*zip(*[(out[k], cotangent(out[k])) for k, cotangent in cotangents.items()]))
        return [leaf.grad for leaf in leaves.values()]

    torch.manual_seed(3)
    alone = gradients({used: torch.ones_like})
    torch.manual_seed(3)
    both = gradients({used: torch.ones_like, 1 - used: torch.zeros_like})
    assert all(torch.equal(a, b) and a.isfinite().all() for a, b in zip(alone, both))


def test_every_run_and_every_thread_count_gives_the_same_bits():
    inputs = gaussians(20_000, 4, seed=3) | {"backgrounds": torch.rand(2, 3)}
    threads = torch.get_num_threads()
    runs = []
    for count in (threads, threads, 1, 3):
        torch.set_num_threads(count)
        images, alphas, gradients = run(
            rasterization, inputs, torch.float32, views(2, 96, 80), (96, 80), sh_degree=1
        )
        runs.append([images, alphas, *gradients.values()])
    torch.set_num_threads(threads)
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other))


def test_opacities_have_the_same_bits_for_every_thread_count():
    """More of them than torch computes on one thread: its own sigmoid depends on how they are shared out."""
    logits = torch.randn(101_000, generator=torch.Generator().manual_seed(5))
    threads = torch.get_num_threads()
    for size in range(100_001, 101_000, 47):
        runs = []
        for count in (1, 2, 3, 5):
            torch.set_num_threads(count)
            runs.append(activated_opacities(logits[:size]))
        torch.set_num_threads(threads)
        assert all(torch.equal(runs[0], other) for other in runs[1:]), size


def pull(scene, cameras, mode, leaves=None, rows=None):
    """Pictures of a scene, the gradients of its tensors or of its leaves, and those on the screen."""
    wanted = (scene if leaves is None else leaves).map(lambda value: value.detach().clone().requires_grad_())
    some = {} if leaves is None else {"leaves": wanted, "rows": rows}
    out = render(scene if some else wanted, cameras, rasterize_mode=mode, render_mode="RGB+ED", **some)
    out.info["means2d"].retain_grad()
    generator = torch.Generator().manual_seed(7)
    (out.rgb * torch.randn(out.rgb.shape, generator=generator) + out.depth).sum().backward()
    return out.rgb.detach(), [value.grad for value in wanted.tensors().values()], out.info["means2d"].grad


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_leaves_alone_get_gradients_and_theirs_are_those_of_the_whole(share, mode):
    scene = random_gaussians(3000, seed=3)
    chosen = torch.rand(3000, generator=torch.Generator().manual_seed(0)) < share
    viewmats, Ks = views(2, 96, 80)
    cameras = Cameras(viewmats, Ks, 96, 80)
    pictures, gradients, screen = pull(scene, cameras, mode)
    pictures_some, gradients_some, screen_some = pull(scene, cameras, mode, scene[chosen], Rows.of(chosen))
    assert torch.equal(pictures_some, pictures)
    for got, expected in zip(gradients_some, gradients):
        # not to the bit: torch's sigmoid rounds by the place
        torch.testing.assert_close(got, expected[chosen], rtol=1e-6, atol=0)
    assert torch.equal(screen_some[:, chosen], screen[:, chosen])
    assert not screen_some[:, ~chosen].any()


def test_leaves_on_another_device_are_put_into_the_whole():
    """What gsplat is given: every row from where it belongs, gradients for the leaves alone."""
    scene = random_gaussians(20, seed=1)
    chosen = torch.arange(20) % 3 == 0
    whole, leaves = (
        (g.means, g.quats, g.scales, g.opacities, (g.sh0, g.shN)) for g in (scene, scene[chosen])
    )
    moved = [leaves[0].add(1).requires_grad_(), *leaves[1:]]
    placed = _with_leaves(whole, tuple(moved), Rows.of(chosen))
    assert torch.equal(placed[0], torch.where(chosen[:, None], scene.means + 1, scene.means))
    assert torch.equal(placed[4][1], scene.shN)
    placed[0].sum().backward()
    assert torch.equal(moved[0].grad, torch.ones_like(moved[0]))


def test_the_first_harmonic_and_the_others_can_come_apart():
    inputs = gaussians(100, 9)
    viewmats, Ks = views(2)
    images, gradients = [], []
    for split in (False, True):
        leaves = {name: value.clone().requires_grad_() for name, value in inputs.items()}
        colors = leaves.pop("colors")
        parts = (colors[:, :1], colors[:, 1:]) if split else colors
        image, _, _ = rasterization(
            **leaves, colors=parts, viewmats=viewmats, Ks=Ks, width=WIDTH, height=HEIGHT, sh_degree=2
        )
        image.sum().backward()
        images.append(image)
        gradients.append(colors.grad)
    assert torch.equal(*images) and torch.equal(*gradients)


def away(parameters):
    """The same Gaussians behind every camera."""
    return parameters | {"means": parameters["means"] * 0.01 + torch.tensor([0.0, 0.0, -50.0])}


@pytest.mark.parametrize("inputs", [away(gaussians(30, 4)), gaussians(0, 4)], ids=["behind", "none"])
def test_nothing_in_view_is_background(inputs):
    background = torch.tensor([[0.2, 0.4, 0.6]])
    images, alphas, gradients = run(
        rasterization, inputs | {"backgrounds": background}, torch.float32, views(1), sh_degree=1
    )
    assert torch.allclose(images, background.double().expand_as(images)) and not alphas.any()
    assert not any(gradients[name].any() for name in ALL[:5])
    assert gradients["backgrounds"].any()


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "colors"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_gaussians_are_culled(name, value):
    inputs = gaussians(60, 4)
    good = run(rasterization, {k: v[1:] for k, v in inputs.items()}, torch.float32, views(2), sh_degree=1)
    broken = {k: v.clone() for k, v in inputs.items()}
    broken[name][0] = value
    images, alphas, gradients = run(rasterization, broken, torch.float32, views(2), sh_degree=1)
    assert torch.equal(images, good[0]) and torch.equal(alphas, good[1])
    for key in inputs:
        assert torch.equal(gradients[key][1:], good[2][key]), key
        if key != "colors":
            assert not gradients[key][0].any(), key


@pytest.mark.parametrize("scale", [1e-12, 1e3, 1e6])
def test_extreme_scales(scale):
    inputs = gaussians(40, 1) | {"scales": torch.full((40, 3), scale)}
    images, alphas, gradients = run(rasterization, inputs, torch.float32, views(1), sh_degree=0)
    assert images.isfinite().all() and alphas.max() <= 1
    assert all(gradients[name].isfinite().all() for name in ALL[:5])


def test_render_activates_the_scene(gaussians):
    viewmats, Ks = views(2)
    cameras = Cameras(viewmats, Ks, WIDTH, HEIGHT)
    out = render(gaussians, cameras, background=torch.tensor([1.0, 0.0, 0.0]), render_mode="RGB+ED")
    assert isinstance(out, Render)
    assert out.rgb.shape == (2, HEIGHT, WIDTH, 3) and out.alpha.shape == out.depth.shape == (
        2,
        HEIGHT,
        WIDTH,
        1,
    )
    assert out.info["means2d"].shape == (2, len(gaussians), 2) and out.info["n_cameras"] == 2
    expected, _, _ = oracle.rasterization(
        gaussians.means, gaussians.quats, gaussians.scales.exp(), gaussians.opacities.sigmoid(), gaussians.sh,
        viewmats, Ks, WIDTH, HEIGHT, sh_degree=gaussians.sh_degree,
        backgrounds=torch.tensor([[1.0, 0.0, 0.0]]).expand(2, 3),
    )  # fmt: skip
    assert (out.rgb - expected).abs().max() < 1e-4
    assert render(gaussians, cameras).depth is None
    antialiased = render(gaussians, cameras, rasterize_mode="antialiased").alpha
    assert antialiased.mean() < render(gaussians, cameras).alpha.mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quats": torch.zeros(3, 4)}, "quats has shape"),
        ({"sh_degree": 4}, "sh_degree is 4"),
        ({"sh_degree": 2}, "K >= 9"),
        ({"render_mode": "rgb"}, "render_mode is 'rgb'"),
        ({"sh_degree": None}, "colors has shape"),
        ({"rasterize_mode": "mip"}, "rasterize_mode is 'mip', known: classic, antialiased"),
        ({"rows": Rows.of(torch.ones(20, dtype=torch.bool))}, "rows need leaves"),
        ({"rows": Rows.of(torch.ones(9) > 0), "leaves": ()}, r"rows.index is torch.int32 \(9,\)"),
        ({"width": 100_000}, "100000 x 8 is too large"),
        ({"scales": torch.ones(20, 3).double()}, "tensors are torch.float32 on cpu, torch.float64 on cpu"),
        ({"backgrounds": torch.ones(1, 3).half()}, "expected all torch.float32 or all torch.float64"),
    ],
)
def test_bad_arguments_are_named(change, message):
    viewmats, Ks = views(1)
    arguments = gaussians(20, 4) | {"viewmats": viewmats, "Ks": Ks, "width": 8, "height": 8, "sh_degree": 1}
    with pytest.raises(ValueError, match=message):
        rasterization(**(arguments | change))


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["RGB", "RGB+ED"])
def test_cpu_matches_gsplat_on_cuda(mode):
    inputs = gaussians(2000, 16, seed=4) | {"backgrounds": torch.rand(2, 3)}
    results = [
        run(rasterization, {k: v.to(device) for k, v in inputs.items()}, torch.float32,
            [x.to(device) for x in views(2, 96, 80)], (96, 80), sh_degree=3, render_mode=mode)
        for device in ("cpu", "cuda")
    ]  # fmt: skip
    (images, alphas, gradients), (cuda_images, cuda_alphas, cuda_gradients) = results
    assert (images - cuda_images.cpu()).abs().max() < 1e-3
    assert (alphas - cuda_alphas.cpu()).abs().max() < 1e-3
    for name, expected in cuda_gradients.items():
        assert (gradients[name] - expected.cpu()).abs().max() <= 5e-3 * expected.abs().max(), name
