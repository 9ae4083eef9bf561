"""The evaluation: what is run, what is skipped, and what the report says of it."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook

from gs_ssd.assets import CONFIGS, DATA
from gs_ssd.cli.evaluate import main
from gs_ssd.errors import UserError
from gs_ssd.evaluation.captures import cases, find_splat
from gs_ssd.evaluation.evaluate import best_rates, evaluate
from gs_ssd.evaluation.execute import execute
from gs_ssd.evaluation.images import configs, measures
from gs_ssd.evaluation.pages import pictures
from gs_ssd.evaluation.report import no_judge_note
from gs_ssd.evaluation.runs import Case, compose_resolved, plan
from gs_ssd.evaluation.settings import FOLDER, composed, variants
from gs_ssd.evaluation.tables import (
    JUDGED,
    colour_rates,
    difference_table,
    heading,
    prompt_table,
    target_lines,
    trend_lines,
    variant_table,
    without_unjudged,
)
from gs_ssd.scene import find_frame, orbit, save_gaussians
from gs_ssd.session.shorthands import options
from tests.methods import DISTILLED
from tests.scene.layouts import transforms
from tests.synthetic import random_gaussians

FAST = [
    "diffusion=tiny",
    "device=cpu",
    "resolution=64",
    "steps=2",
    "metrics.views=3",
    "metrics.size=32",
    "render.frames=2",
    "render.size=32",
    "render.sheet_views=2",
    "render.sheet_size=32",
]


@pytest.fixture(scope="module")
def ball(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "ball.ply"
    save_gaussians(random_gaussians(300, sh_degree=0), path)
    return path


def ball_case(path: Path, prompt: str = "clown") -> Case:
    return Case("ball", prompt, (f"scene={path}", "prompt.source=a man", f"prompt.target=a {prompt}"))


def planned(ball: Path, folder: Path, *settings: str):
    return plan(
        {"ssd": ["guidance=ssd"], "dds": ["guidance=dds"]},
        [ball_case(ball)],
        rates={"ssd": [1.0], "dds": [0.5, 1.0]},
        common=[*FAST, *settings],
        folder=folder,
    )


def first(ball: Path, folder: Path, *settings: str):
    (run,) = plan(
        {"ssd": ["guidance=ssd"]},
        [ball_case(ball)],
        rates={"ssd": [1.0]},
        common=[*FAST, *settings],
        folder=folder,
    )
    return run


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((FOLDER / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_is_made_of_settings_that_exist(path, tmp_path):
    cfg = composed([f"experiment={path.stem}", "guidance=all"])
    own = [*cfg.settings, *cfg.sample_settings]
    compared = variants(cfg)
    if cfg.pie_bench:
        for settings in compared.values():
            compose_resolved(("prompt.target=x", *own, *settings), "edit_image")
        return
    rates = {name: [1.0] for name in compared}
    runs = plan(compared, cases(cfg)[:1], rates=rates, common=own, folder=tmp_path)
    assert len({run.key for run in runs}) == len(compared)  # no two variants are the same
    named = {name for trend in cfg.trends for name in trend.grows}
    assert named <= set(compared)
    assert {t.metric for t in [*cfg.trends, *cfg.targets]} <= set(cfg.columns)
    assert {prompt for target in cfg.targets for prompt in target.prompts} <= set(cfg.prompts)
    assert set(cfg.prompts) <= set(options("prompt"))


def test_all_methods_but_those_for_another_prior():
    guidances = {
        name for settings in composed([]).methods.values() for name in settings if "guidance=" in name
    }
    assert guidances == {f"guidance={name}" for name in DISTILLED if not name.endswith("_ip2p")}


def test_a_rate_scales_the_colours(ball, tmp_path):
    runs = planned(ball, tmp_path)
    sh0 = [run.config["optimizer"]["rates"]["sh0"] for run in runs]
    assert sh0 == pytest.approx([0.01, 0.005, 0.01])
    assert len({run.folder for run in runs}) == 3
    assert colour_rates(runs) == {"ssd": "0.01", "dds": "0.005, 0.01"}


def test_a_pair_is_composed_as_a_whole(ball, tmp_path):
    cases = [ball_case(ball), Case("face", "gold", ("scene=face", "prompt=gold"))]
    variants = {"csd": ["guidance=csd", "guidance.w_b=3"]}
    _, pair = plan(variants, cases, rates={"csd": [1.0]}, common=FAST, folder=tmp_path)
    settings = ["scene=face", "prompt=gold", *FAST, *variants["csd"], "no_edit_guard=false"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        whole = OmegaConf.to_container(compose("train", overrides=settings), resolve=True)
    assert pair.config == whole | {"output_dir": str(pair.folder)}
    with pytest.raises(UserError, match="variant far sets scene"):
        plan({"far": ["scene.radius=9"]}, cases, rates={"far": [1.0]}, common=FAST, folder=tmp_path)


def test_a_run_is_known_by_its_settings_and_its_files(ball, tmp_path):
    run = first(ball, tmp_path / "a")
    assert run.key == first(ball, tmp_path / "b").key
    assert run.key != first(ball, tmp_path / "a", "seed=1").key
    copy = Path(shutil.copy(ball, tmp_path / "ball.ply"))
    moved = first(copy, tmp_path / "a")
    assert moved.key == run.key  # the same scene in another place
    parts = [
        Path(shutil.copy(DATA / "scenes" / "face_parts.npy", tmp_path / name)) for name in ("a.npy", "b.npy")
    ]
    masked = [
        first(ball, tmp_path, "scene.mask._target_=gs_ssd.scene.masks.Parts", f"+scene.mask.path={path}")
        for path in parts
    ]
    assert masked[0].key == masked[1].key != run.key
    other = tmp_path / "other" / "ball.ply"
    save_gaussians(random_gaussians(300, sh_degree=0, seed=1), other)
    assert first(other, tmp_path / "a").key != run.key


@pytest.mark.slow
def test_a_run_is_known_by_what_its_masks_files_hold(ball, tmp_path):
    """Those of a mask that is made of others, too: the same content elsewhere is the same run, another is another."""
    for name, count in (("a", 7), ("b", 7), ("c", 8)):
        np.save(tmp_path / f"{name}.npy", np.arange(count))

    def key(name: str, *mask: str) -> str:
        return first(ball, tmp_path, *(line.format(tmp_path / f"{name}.npy") for line in mask)).key

    for mask in (
        ("mask={}",),
        ("mask=grow", "mask.of={}", "mask.distance=0.1"),
        (
            "mask=union",
            "mask.of.ball=sphere",
            "mask.of.ball.center=[0,0,0]",
            "mask.of.ball.radius=1",
            "mask.of.hand={}",
        ),
        ("mask=invert", "mask.of=union", "mask.of.of.left={}", "mask.of.of.right={}"),
    ):
        assert key("a", *mask) == key("b", *mask) != key("c", *mask)


@pytest.fixture(scope="module")
def captures(tmp_path_factory) -> Path:
    """Two captures as nerfstudio writes them, each with a splat."""
    data = tmp_path_factory.mktemp("my captures")
    scene = random_gaussians(300, sh_degree=0)
    views = orbit(find_frame(scene), 20, width=64, height=64)
    flip = torch.diag(torch.tensor([1.0, -1, -1, 1]))
    poses = [(torch.linalg.inv(viewmat) @ flip).numpy() for viewmat in views.viewmats]
    for name in ("person", "bear"):
        save_gaussians(scene, data / name / "point_cloud" / "iteration_7000" / "point_cloud.ply")
        focal = views.Ks[0, 0, 0].item()
        (data / name / "transforms.json").write_bytes(transforms(poses, fl_x=focal, w=64, h=64))
    return data


@pytest.fixture(scope="module")
def evaluated(captures, tmp_path_factory) -> tuple[list[str], Path]:
    """Two methods with two rates on the captures, by two processes."""
    folder = tmp_path_factory.mktemp("results")
    # The miniature knows no words, so the judge is the one that ships.
    overrides = [*FAST[:3], *FAST[4:], "metrics.views=20", "metrics.clip=data/judge"]
    arguments = [
        "experiment=table1",
        f"data={captures}",
        "guidance=[ssd,dds]",
        "rates=[1,2]",
        "steps=2",
        "jobs=2",
        f"overrides=[{','.join(overrides)}]",
        f"output_dir={folder}",
    ]
    assert evaluate(composed(arguments)) == 0
    return arguments, folder


@pytest.mark.parametrize(
    "experiment", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("table1", "fig5")), "fig8"]
)
def test_the_papers_comparisons_run_on_captures(experiment, captures, tmp_path):
    cfg = composed([f"experiment={experiment}", f"data={captures}", "needs_mask=[]"])
    common = [*cfg.settings, *cfg.capture_settings]
    compared = variants(cfg)
    rates = {name: [1.0] for name in compared}
    runs = plan(
        compared, cases(cfg), rates=rates, common=["diffusion=sd15", *common], folder=tmp_path / "runs"
    )
    assert len(runs) == 2 * len(compared)
    assert {Path(run.config["scene"]["path"]).parents[2].name for run in runs} == {"person", "bear"}
    for run in runs:  # as train.py would edit them, not as the embedded prior's samples are
        assert run.config["diffusion"]["name"] == "sd15" and run.config["steps"] == 1500
        assert run.config["metrics"]["clip"] == "openai/clip-vit-large-patch14"
        assert run.config["metrics"]["lpips"] == ("background_lpips" in cfg.columns)


@pytest.mark.slow
def test_results_of_a_grid(evaluated):
    _, folder = evaluated
    results = json.loads((folder / "results.json").read_text())
    assert len(results["rows"]) == 2 * 2 and not any(row["diverged"] for row in results["rows"])
    assert {(row["scene"], row["prompt"]) for row in results["rows"]} == {
        ("person", "pineapple"),
        ("bear", "panda"),
    }
    assert results["rates"] == best_rates(results["validation"])
    assert all(row["rate"] == results["rates"][row["variant"]] for row in results["rows"])
    assert all(row["evaluations_per_step"] == 4 for row in results["rows"])
    text = (folder / "results.md").read_text()
    assert "metrics over up to 20 random views" in text  # a capture may have fewer cameras
    assert "| ssd |" in text and "| SSD | 0.1846 | 0.0773 | 41.81 |" in text
    for page in ("person", "bear"):
        Image.open(folder / f"{page}.png").verify()


@pytest.mark.slow
def test_the_same_command_again_runs_nothing(evaluated, capsys):
    arguments, folder = evaluated
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/**/edited.ply")}
    assert evaluate(composed(arguments)) == 0
    assert "4 of 4 runs are finished already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.glob("runs/**/edited.ply")} == before


@pytest.mark.slow
def test_an_interrupted_grid_goes_on_where_it_stopped(evaluated, capsys):
    arguments, folder = evaluated
    rates = json.loads((folder / "results.json").read_text())["rates"]
    lost = folder / "runs" / "dds" / f"rate_{rates['dds']:g}" / "person" / "pineapple"
    (lost / "finished.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/**/edited.ply")}
    assert evaluate(composed(arguments)) == 0
    assert "3 of 4 runs are finished already" in capsys.readouterr().out
    changed = [p for p in folder.glob("runs/**/edited.ply") if p.stat().st_mtime_ns != before[p]]
    assert changed == [lost / "edited.ply"]


SLOWLY = [
    (["guidance=ssd"], 4),
    (["guidance=ssd", "guidance.w_e=0", "guidance.w_t=0"], 2),
    (["guidance=dds"], 4),
    (["guidance=csd"], 2),
    (["guidance=csd", "guidance.w_b=3"], 3),
    (["guidance=sds"], 2),
    (["guidance=nfsd", "timesteps.ratio_min=0.3"], 3),
    (["guidance=pds"], 4),
]


@pytest.mark.parametrize(
    "settings, count",
    [
        (["guidance=ssd", "guidance.w_e=0"], 3),
        (["guidance=ssd", "guidance.w_e=0", "hull.views=2"], 3),
        (["guidance=nfsd", "timesteps.ratio_max=0.19"], 2),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOWLY),
    ],
)
def test_the_reported_evaluations_are_those_of_the_network(settings, count, ball, tmp_path):
    batches = []

    def count_batch(module, arguments) -> None:
        if isinstance(module, UNet2DConditionModel):
            batches.append(len(arguments[0]))

    (run,) = plan({"x": settings}, [ball_case(ball)], rates={"x": [1.0]}, common=FAST, folder=tmp_path)
    hook = register_module_forward_pre_hook(count_batch)
    long = pytest.warns(UserWarning, match="reads 16: its end is ignored")  # NFSD's negative prompt
    try:
        with long if "guidance=nfsd" in settings else nullcontext():
            execute(run)
    finally:
        hook.remove()
    assert batches[-2:] == [count] * 2  # one call per step
    assert batches[:-2] == ([2, 2] if "hull.views=2" in settings else [])
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert metrics["evaluations_per_step"] == count and metrics["evaluations"] == sum(batches)


def test_best_rate():
    trials = [
        {"variant": "a", "rate": 1, "clip_direction": 0.1},
        {"variant": "a", "rate": 1, "clip_direction": 0.5},
        {"variant": "a", "rate": 2, "clip_direction": 0.4},
        {"variant": "b", "rate": 1, "clip_direction": 0.0},
        {"variant": "b", "rate": 2, "clip_direction": 0.2},
    ]
    assert best_rates(trials) == {"a": 2, "b": 2}


ROWS = [
    {"variant": "a", "prompt": "clown", "diverged": False, "source_psnr": 20.0, "bright_spots": 0.01},
    {"variant": "a", "prompt": "gold", "diverged": True, "source_psnr": 30.0, "bright_spots": 0.03},
    {"variant": "b", "prompt": "clown", "diverged": False, "source_psnr": 26.0, "bright_spots": None},
]


def test_tables():
    lines = variant_table(ROWS, ["source_psnr", "bright_spots"], {"a": "0.02", "b": "0.01"})
    assert lines[2:] == [
        "| a (1 of 2 runs diverged) | 0.02 | 25.0 ± 5.0 | 2.00 ± 1.00 |",
        "| b (1 of 2 runs) | 0.01 | 26.0 | - |",
    ]
    assert prompt_table(ROWS, "source_psnr", ["a", "b"])[2:] == ["| a | 20.0 | 30.0 |", "| b | 26.0 | - |"]


def test_the_judge_says_nothing_of_what_it_does_not_know():
    rows = without_unjudged([{"prompt": "a", **dict.fromkeys(JUDGED, 1.0), "way": 0.5} for _ in "x"], ["a"])
    assert rows == [{"prompt": "a", **dict.fromkeys(JUDGED), "way": 0.5}]
    known = {"prompt": "b", "retrieval_top1": 1.0}
    assert without_unjudged([known], ["a"]) == [known]
    card = (DATA / "judge" / "README.md").read_text()
    said = dict(re.findall(r"own or partner's caption: (\w+) \(\d+\) \| ([\d.]+)", card))
    weak = {name for name, percent in said.items() if float(percent) < 75}
    assert set(composed([]).unjudged) == {"sunglasses" if name == "eyewear" else name for name in weak} - {
        "smile"
    }


def test_a_table_has_standard_errors_and_paired_differences():
    def row(variant, scene, seed, value):
        about = {"scene": scene, "prompt": "clown", "seed": seed, "diverged": False}
        return {"variant": variant, **about, "source_psnr": value}

    easy_and_hard = [row("a", "easy", 0, 30.0), row("a", "hard", 0, 20.0), row("a", "hard", 1, 22.0)]
    better = [row("b", "easy", 0, 31.0), row("b", "hard", 0, 20.5), row("b", "hard", 1, 23.5)]
    rows = [*easy_and_hard, *better, row("b", "odd", 0, 90.0)]  # no pair, so no part of the difference
    lines = difference_table(rows, ["source_psnr"], ["a", "b"])
    assert lines[0] == "| minus a | source kept, dB ↑ |" and lines[2:] == ["| b | +1.0 ± 0.0 |"]
    # The seeds of a case are averaged first: 30 and 21, not three numbers.
    assert variant_table(easy_and_hard, ["source_psnr"], {"a": "1"})[2] == "| a | 1 | 25.5 ± 4.5 |"
    # Of one case the seeds are the units.
    assert variant_table(easy_and_hard[1:], ["source_psnr"], {"a": "1"})[2] == "| a | 1 | 21.0 ± 1.0 |"
    assert difference_table(easy_and_hard, ["source_psnr"], ["a"]) == []


def test_the_offline_judges_columns_are_headed_as_its_own():
    assert heading("clip_similarity", judged=True) == "judge sim ↑"
    assert heading("clip_direction", judged=True) == "judge direction ↑"
    assert heading("clip_similarity") == "CLIP sim ↑"
    assert heading("source_psnr", judged=True) == heading("source_psnr")


def test_seeds_multiply_the_runs_and_keep_those_that_are_there(ball, tmp_path):
    once = planned(ball, tmp_path)
    settings = {"rates": {"ssd": [1.0], "dds": [1.0]}, "common": FAST, "folder": tmp_path}
    compared = {"ssd": ["guidance=ssd"], "dds": ["guidance=dds"]}
    runs = plan(compared, [ball_case(ball)], seeds=[0, 1, 2], **settings)
    assert [run.seed for run in runs] == [0, 1, 2] * 2
    assert [run.config["seed"] for run in runs] == [0, 1, 2] * 2
    assert len({run.folder for run in runs}) == len({run.key for run in runs}) == 6
    assert (runs[0].key, runs[0].folder) == (once[0].key, once[0].folder)


def test_an_output_folder_that_is_a_file_is_refused_before_any_work(tmp_path):
    file = tmp_path / "notes.txt"
    file.touch()
    for folder in (file, file / "below"):
        with pytest.raises(UserError, match=r"notes\.txt is a file; choose a folder"):
            evaluate(composed(["guidance=[ssd]", "rates=[1]", f"output_dir={folder}"]))


def test_an_error_names_its_run_and_stands_in_its_log(tmp_path):
    scene = tmp_path / "broken.ply"
    scene.write_text("ply")
    (run,) = plan({"ssd": []}, [ball_case(scene)], rates={"ssd": [1.0]}, common=FAST, folder=tmp_path)
    with pytest.raises(UserError, match=r"ssd on ball, clown: .*broken\.ply"):
        execute(run)
    assert "broken.ply" in (run.folder / "log.txt").read_text()
    assert not run.finished


def test_a_run_that_is_stopped_stays_unfinished(ball, tmp_path):
    run = planned(ball, tmp_path)[0]
    execute(run, stop=lambda: True)
    assert not run.finished and not (run.folder / "edited.ply").exists()


def test_the_door_answers_in_one_line(capsys):
    assert main(["="]) == 2
    assert (
        capsys.readouterr().err == "error: '=' is no setting; settings are name=value, such as guidance=all\n"
    )
    assert main(["--help"]) == 0
    assert "seeds: null" in capsys.readouterr().out


def test_table_2_runs_each_method_with_its_published_timesteps():
    cfg = composed(["experiment=table2"])
    found = {
        name: config["timesteps"]
        for name, config in configs(variants(cfg), [*cfg.settings, *cfg.sample_settings]).items()
    }
    for name in ("dds", "cds"):
        assert found[name]["_target_"].endswith("Uniform")
        assert (found[name]["ratio_min"], found[name]["ratio_max"]) == (0.05, 0.948)
    assert found["ssd"]["_target_"].endswith("Linear")


def test_table_1_has_dds_with_its_published_timesteps_beside_ssds():
    cfg = composed(["experiment=table1", "guidance=[ssd,dds,dds_falling]"])
    runs = plan(
        variants(cfg),
        cases(cfg)[:1],
        rates={name: [1.0] for name in cfg.guidance},
        common=[*cfg.settings, *cfg.sample_settings],
        folder=Path(),
    )
    rules = {run.variant: run.config["timesteps"] for run in runs}
    assert (rules["dds"]["ratio_min"], rules["dds"]["ratio_max"]) == (0.05, 0.948)
    assert rules["dds"]["_target_"].endswith("Uniform")
    assert rules["ssd"]["_target_"].endswith("Linear") and rules["dds_falling"]["_target_"].endswith("Linear")


def test_the_door_says_which_capture_has_no_mask(captures, tmp_path, capsys):
    capture = "captures=[{scene: bear, prompt: panda, source: a bear, target: a panda}]"
    out = tmp_path / "out"
    assert main(["experiment=table1", f"data={captures}", capture, f"output_dir={out}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "error: gs_editor edits inside a mask, and the capture bear, panda has none; give it"
    )
    assert not out.exists()


def test_a_captures_own_mask_and_settings(captures, tmp_path):
    import numpy as np

    np.save(captures / "bear" / "mask.npy", np.arange(100))
    entry = "{scene: bear, prompt: fox, source: a bear, target: a fox, mask: mask.npy, settings: [densify.stop=7]}"
    (case,) = cases(composed(["experiment=table1", f"data={captures}", f"captures=[{entry}]"]))
    (run,) = plan(
        {"ssd": []}, [case], rates={"ssd": [1.0]}, common=[*FAST, "densify.stop=9"], folder=tmp_path
    )
    config = run.config
    assert config["scene"]["mask"] == {
        "_target_": "gs_ssd.scene.masks.File",
        "path": str(captures / "bear" / "mask.npy"),
    }
    assert config["densify"]["stop"] == 7
    missing = entry.replace("mask.npy", "none.npy")
    with pytest.raises(UserError, match=r"none\.npy: no such file; the capture bear, fox names it"):
        cases(composed(["experiment=table1", f"data={captures}", f"captures=[{missing}]"]))


def test_the_published_pineapple_is_on_no_blue_shirt():
    (capture,) = [c for c in composed([]).captures if c.prompt == "pineapple"]
    assert capture.target == "A man wearing a T-shirt with a pineapple pattern and brown pants"


def test_trends_and_targets():
    def verdict(*grows: str, metric: str = "source_psnr") -> str:
        return trend_lines(ROWS, [{"claim": "c", "metric": metric, "grows": grows}])[0]

    assert verdict("a", "b").startswith("* c: holds (source kept, dB ↑ a: 25.0 ± 5.0, b: 26.0)")
    assert "**does not hold**" in verdict("b", "a") and "**does not hold**" in verdict("a", "a")
    assert "not measured" in verdict("a", "b", metric="bright_spots")
    target = {"claim": "kept", "metric": "source_psnr", "prompts": ["clown"], "at_least": 25}
    missed, met = target_lines(ROWS, [target], ["a", "b"])
    assert "**missed** by a (20.0)" in missed and "met by b (26.0)" in met


BAD = {
    "experiment=nope": "no experiment is called 'nope'; there are: embedded_benchmark",
    "guidance=sdd": "guidance=sdd is none of: all, ssd",
    "guidance=null": "guidance=None is none of: all, ssd",
    "guidance=5": "guidance=5 is none of: all, ssd",
    "stepz=3": "no setting is called stepz (did you mean steps?)",
    "rates=[0]": r"rates=[0] must be numbers above 0",
    "rates=fast": "rates=fast must be numbers above 0",
    "jobs=0": "jobs=0 must be a whole number",
    "data=/nowhere": "data=/nowhere: no such folder",
    "overrides=[stepp=3]": "no setting is called stepp",
    "overrides=[guidance=null]": "guidance=null",
    "overrides=[timesteps=5]": "timesteps=5",
    "scenes=[fase]": "no scene is called 'fase' (did you mean face?)",
    "prompts=clown": "prompts=clown must be a list",
    "overrides=seed=1": "overrides=seed=1 must be a list of settings",
    "overrides=[seed: 1]": "overrides=[{'seed': 1}] must be a list of settings",
    "all": "'all' is no setting",
    "=": "'=' is no setting; settings are name=value",
    "=3": "'=3' is no setting",
    "seeds=0": "seeds=0 must be a list of different whole numbers",
    "seeds=[0,0]": "seeds=[0, 0] must be a list of different",
    "seeds=[-1]": "seeds=-1 must be a whole number",
}


@pytest.mark.parametrize("argument", BAD)
def test_bad_input(argument, tmp_path):
    with pytest.raises(UserError) as caught:
        evaluate(composed(["guidance=[ssd]", "rates=[1]", f"output_dir={tmp_path / 'out'}", argument]))
    assert BAD[argument] in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


BAD_2D = {
    "pie_bench.limit=abc": "limit=abc must be a whole number",
    "pie_bench.lpips=perhaps": "pie_bench.lpips=perhaps is none of auto, true, false",
    "pie_bench.limits=3": "no setting is called pie_bench.limits",
    "pie_bench=3": "pie_bench=3 is not limit, clip",
    "overrides=[steps=abc]": "steps=abc must be a whole number",
    "overrides=[rate=-1]": "rate=-1 must be a number above 0",
    "overrides=[seed=-1]": "seed=-1 must be a whole number",
    "overrides=[stepp=3]": "no setting is called stepp",
    "overrides=[space=pixels]": "space=pixels is of no use in a 2D experiment, which takes: diffusion",
    "overrides=[prompt.negative=ugly]": "prompt.negative=ugly is of no use in a 2D experiment",
    "rates=[1,2]": "rates=[1, 2] is for 3D",
    "scenes=[face]": "scenes=['face'] is for 3D",
    "prompts=[clown]": "prompts=['clown'] is for 3D",
    "variants={ssd: [guidance=ssd, steps=3]}": "variant ssd sets steps=3; in 2D",
    "data=3": "3 holds no mapping_file.json",
}


@pytest.mark.parametrize("argument", BAD_2D)
def test_bad_input_of_a_2d_experiment(argument, tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(UserError) as caught:
        evaluate(composed(["experiment=table2", "guidance=[ssd]", f"output_dir={folder}", argument]))
    assert BAD_2D[argument] in str(caught.value) and "\n" not in str(caught.value)
    assert not folder.exists()


@pytest.mark.slow
def test_2d_edits_of_two_methods(tmp_path, capsys):
    """The command for table 2 on the embedded pictures, with the miniature."""
    arguments = [
        "experiment=table2",
        "guidance=[ssd,dds]",
        "pie_bench.limit=1",
        "overrides=[diffusion=tiny,device=cpu,steps=2]",
        f"output_dir={tmp_path}",
    ]
    assert evaluate(composed(arguments)) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert [(row["guidance"], row["steps_done"]) for row in results["rows"]] == [("ssd", 2), ("dds", 2)]
    for row in results["rows"]:
        assert row["mse"] > 0 and row["judge_whole"] is not None and "clip_whole" not in row
    assert results["rows"][0]["mse"] != results["rows"][1]["mse"]
    text = (tmp_path / "results.md").read_text()
    assert "| ssd | 1 |" in text and "| dds | 1 |" in text and "| SSD (published) | 700 |" in text
    assert "judge whole" in text and text in capsys.readouterr().out
    assert Image.open(tmp_path / "grid.png").width > 3 * 192
    assert results["differences"]["dds"]["mse"]["mean"] == pytest.approx(
        results["rows"][1]["mse"] - results["rows"][0]["mse"]
    )
    assert {row["variant"] for row in results["rows"]} == {"ssd", "dds"}
    assert len(list(tmp_path.rglob("log.txt"))) == len(list(tmp_path.rglob("finished.json"))) == 2
    edited = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("after.png")}
    assert evaluate(composed(arguments)) == 0  # the queue is that of scenes: nothing is done twice
    assert "2 of 2 runs are finished already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("after.png")} == edited


@pytest.mark.slow
def test_a_table_of_seeds_and_budgets_and_its_study(tmp_path, capsys):
    """Errors, paired differences and the three views of one table by the command; then the page that asks people."""
    arguments = [
        "experiment=table2",
        "guidance=[ssd,dds]",
        "pie_bench.limit=2",
        "seeds=[0,1]",
        "budgets=[0.5,1]",
        "overrides=[diffusion=tiny,device=cpu,steps=2]",
        f"output_dir={tmp_path}",
    ]
    assert main(arguments) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["rows"]) == 2 * 2 * 2 * 2
    assert {(row["seed"], row["share"], row["steps_done"]) for row in results["rows"]} == {
        (seed, share, round(2 * share)) for seed in (0, 1) for share in (0.5, 1)
    }
    own = [row for row in results["rows"] if row["share"] == 1]
    mse = {(r["variant"], r["key"], r["seed"]): r["mse"] for r in own}
    keys = sorted({row["key"] for row in own})
    pairs = [sum(mse["dds", key, seed] - mse["ssd", key, seed] for seed in (0, 1)) / 2 for key in keys]
    found = results["differences"]["dds"]["mse"]  # the seeds of a picture are averaged: two units, not four
    assert found["count"] == 2 and found["mean"] == pytest.approx(sum(pairs) / 2)
    assert found["error"] == pytest.approx(abs(pairs[0] - pairs[1]) / 2)
    text = (tmp_path / "results.md").read_text()
    assert text.count("At the same budget of") == text.count("Paired differences there:") == 3
    assert main([f"study={tmp_path}"]) == 0
    assert "study.html" in capsys.readouterr().out and (tmp_path / "study.html").stat().st_size > 10_000


def test_measures_are_the_published_ones_where_there_is_data():
    embedded = measures(composed(["experiment=table2"]))
    assert embedded == {"limit": None, "clip": None, "structure": None, "lpips": False, "compat": False}
    published = {
        "limit": None,
        "clip": "openai/clip-vit-large-patch14",
        "structure": "facebook/dino-vitb8",
        "lpips": True,
        "compat": True,
    }
    given = ["experiment=table2", "data=PIE-Bench_v1"]
    assert measures(composed(given)) == published
    own = ["pie_bench.clip=null", "pie_bench.structure=my/vit", "pie_bench.lpips=false", "pie_bench.limit=3"]
    chosen = {"limit": 3, "clip": None, "structure": "my/vit", "lpips": False, "compat": False}
    assert measures(composed([*given, *own])) == chosen
    assert measures(composed([*given, "pie_bench.compat=false"])) == published | {"compat": False}


@pytest.mark.slow
def test_a_judge_that_is_missing_is_noted(captures, tmp_path, capsys):
    """Its columns would vanish without a word else."""
    judge = tmp_path / "no judge"
    judge.mkdir()
    overrides = [*FAST[:3], *FAST[4:], f"metrics.clip={judge}", "metrics.compat=false"]
    arguments = [
        "experiment=table1",
        f"data={captures}",
        "captures=[{scene: bear, prompt: panda, source: a bear, target: a panda}]",
        "guidance=[ssd]",
        "steps=1",
        f"overrides=[{','.join(overrides)}]",
        f"output_dir={tmp_path / 'out'}",
    ]
    assert evaluate(composed(arguments)) == 0
    note = f"No CLIP columns: {judge} can't be loaded; the runs' log.txt says why."
    text = (tmp_path / "out" / "results.md").read_text()
    assert note in text.splitlines() and "direction ↑" not in text
    assert note in capsys.readouterr().out
    log = next((tmp_path / "out").rglob("log.txt")).read_text()
    assert "no CLIP metrics" in log


@pytest.mark.slow
def test_a_scene_that_is_generated(tmp_path):
    """It has no file: the page shows the ball that it grew from."""
    overrides = [*FAST[:3], *FAST[4:], "scene.start.count=500", "seed=3"]
    arguments = [
        "experiment=embedded_benchmark",
        "scenes=[blob]",
        "prompts=[clown]",
        "guidance=[nfsd]",
        "rates=[1]",
        "steps=2",
        f"overrides=[{','.join(overrides)}]",
        f"output_dir={tmp_path}",
    ]
    cfg = composed(arguments)
    assert evaluate(cfg) == 0
    Image.open(tmp_path / "blob.png").verify()
    assert "metrics over 3 random views" in (tmp_path / "results.md").read_text()
    common = [*cfg.settings, *cfg.sample_settings, "steps=2", *overrides]
    (run,) = plan(variants(cfg), cases(cfg), rates={"nfsd": [1.0]}, common=common, folder=tmp_path)
    ball, grown = pictures(run, of="source"), pictures(run)
    assert 0 < (ball - grown).abs().max() < 0.05  # two steps from it


@pytest.mark.slow
def test_a_judge_that_measured_needs_no_note(evaluated):
    assert "No CLIP columns" not in (evaluated[1] / "results.md").read_text()
    assert no_judge_note([], "judge") == []  # nothing has run yet
    assert no_judge_note([{"clip_direction": None}], None) == [
        "No CLIP columns: metrics.clip names no judge."
    ]


def test_the_longest_trained_splat_is_taken(tmp_path):
    for name in ("point_cloud/iteration_7000", "point_cloud/iteration_30000"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "point_cloud.ply").touch()
    (tmp_path / "input.ply").touch()
    assert find_splat(tmp_path).parent.name == "iteration_30000"


@pytest.mark.parametrize("name", ["fused.ply", "meshed-poisson.ply", "meshed-delaunay.ply"])
def test_a_dense_reconstruction_is_no_splat(name, tmp_path):
    (tmp_path / "dense" / "0").mkdir(parents=True)
    (tmp_path / "dense" / "0" / name).touch()
    with pytest.raises(UserError, match="holds no splat"):
        find_splat(tmp_path)
    (tmp_path / "point_cloud.ply").touch()
    assert find_splat(tmp_path) == tmp_path / "point_cloud.ply"


BAD_CAPTURES = {
    "null": "captures=None must be a list of {scene, prompt, source, target}",
    "[]": "captures=[] must be a list",
    "face": "captures=face must be a list",
    "[face]": "entry 1 (face) must have scene, prompt, source, target",
    "[{scene: face, prompt: fox, source: a dog}]": "target is missing",
    "[{prompt: fox, source: a dog, target: a fox}]": "scene is missing",
    "[{scene: face, prompt: 3, source: a dog, target: a fox}]": "prompt is 3, expected a text",
    "[{scene: face, prompt: fox, source: ' ', target: a fox}]": "source is ' ', expected a text",
    "[{scene: face, prompt: dog, source: a dog, target: A dog}]": "target equals source",
    "[{scene: face, prompt: fox, source: a dog, target: a fox, masc: m.npy}]": "masc is none of scene",
    "[{scene: face, prompt: fox, source: a dog, target: a fox, mask: 3}]": "mask is 3, expected a text",
    "[{scene: face, prompt: fox, source: a dog, target: a fox, settings: 3}]": "settings must be a list",
    "[{scene: dog, prompt: fox, source: a dog, target: a fox}, {scene: cat}]": "captures, entry 2 ",
}


@pytest.mark.parametrize("value", BAD_CAPTURES)
def test_a_bad_entry_of_the_captures_is_one_line(value, captures):
    with pytest.raises(UserError) as caught:
        cases(composed(["experiment=table1", f"data={captures}", f"captures={value}"]))
    assert BAD_CAPTURES[value] in str(caught.value) and str(caught.value).startswith("captures")
    assert "\n" not in str(caught.value)


def test_bad_captures(tmp_path):
    with pytest.raises(
        UserError, match="holds none of this experiment's scenes; it should have folders face"
    ):
        cases(composed(["experiment=table1", f"data={tmp_path}"]))
    (tmp_path / "face").mkdir()
    with pytest.raises(UserError, match="face: holds no cameras"):
        cases(composed(["experiment=table1", f"data={tmp_path}"]))
    (tmp_path / "face" / "cameras.json").write_text(
        '[{"width": 4, "height": 4, "fx": 4, "fy": 4, "position": [0, 0, 0], '
        '"rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}]'
    )
    with pytest.raises(UserError, match="face: holds no splat"):
        cases(composed(["experiment=table1", f"data={tmp_path}"]))


def test_a_method_that_needs_a_mask_refuses_a_capture_without_one(captures):
    def found(capture: dict, *arguments: str):
        cfg = composed([f"data={captures}", "experiment=table1", *arguments])
        return cases(OmegaConf.merge(cfg, {"captures": [capture]}))

    bear = {"scene": "bear", "prompt": "panda", "source": "a bear", "target": "a panda"}
    with pytest.raises(
        UserError, match="gs_editor edits inside a mask, and the capture bear, panda has none"
    ):
        found(bear)
    assert len(found(bear, "guidance=[ssd,in2n]")) == 1
    assert len(found(bear | {"settings": ["mask=text", "mask.words=the bear"]})) == 1
    (captures / "bear" / "mask.npy").touch()
    assert len(found(bear | {"mask": "mask.npy"})) == 1
    (captures / "bear" / "mask.npy").unlink()
