"""The queue on its launchers: what is done once, what a lost worker or machine costs, what is said."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from omegaconf import DictConfig

from gs_ssd.assets import PRIOR, ROOT
from gs_ssd.diffusion.load import ALIASES
from gs_ssd.errors import UserError
from gs_ssd.evaluation.evaluate import evaluate
from gs_ssd.evaluation.execute import attempt
from gs_ssd.evaluation.images import pictures, plan_pictures
from gs_ssd.evaluation.launchers import Machines
from gs_ssd.evaluation.launchers.local import unheard
from gs_ssd.evaluation.queue import Pace, do, spoken
from gs_ssd.evaluation.runs import Run, digest, weights
from gs_ssd.evaluation.settings import composed
from tests.evaluation.pie_layout import entry, write
from tests.waiting import until

TINY = ["diffusion=tiny", "device=cpu", "steps=1"]
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install '.[ray]'")
needs_submitit = pytest.mark.skipif(find_spec("submitit") is None, reason="submitit is not installed")


def entries(count: int) -> dict[str, dict]:
    return {f"{number:03}": entry("a.jpg") for number in range(count)}


def typed(folder: Path, count: int, *more: str) -> list[str]:
    """The command for one step of `count` pictures with two methods."""
    data = write(folder / "pie", entries(count))
    own = "pie_bench={limit: null, clip: null, structure: null, lpips: false, compat: false}"
    settings = f"overrides=[{','.join(TINY)}]"
    return [
        "experiment=table2", f"data={data}", "guidance=[ssd,dds]", own, settings, f"output_dir={folder / 'out'}", *more
    ]  # fmt: skip


def planned(cfg: DictConfig, folder: Path) -> list[Run]:
    compared = {"ssd": ["guidance=ssd"], "dds": ["guidance=dds"]}
    return plan_pictures(pictures(cfg, compared, TINY), compared, TINY, folder=folder)


def finished(folder: Path) -> dict[str, int]:
    """When each run was finished, in nanoseconds, by its folder."""
    return {str(path.parent): path.stat().st_mtime_ns for path in folder.glob("runs/**/finished.json")}


def start(arguments: list[str]) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-m", "gs_ssd.cli.main", "evaluate", *arguments],
        text=True, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def wait_until(count: int, folder: Path, process: subprocess.Popen) -> None:
    until(lambda: len(finished(folder)) >= count or process.poll() is not None)
    assert len(finished(folder)) >= count


@needs_ray
@pytest.mark.slow
def test_forty_runs_on_ray_survive_a_kill_in_the_middle(tmp_path):
    """Two workers; the command is killed, then begun anew: every row once."""
    arguments = typed(tmp_path, 20, "launcher=ray", "jobs=2")
    out = tmp_path / "out"
    process = start(arguments)
    wait_until(10, out, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = finished(out)
    assert 10 <= len(before) < 40
    process = start(arguments)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    after = finished(out)
    kept = int(re.search(r"edits: (\d+) of 40 runs are finished already", said)[1])
    assert kept >= len(before) and {place: after[place] for place in before} == before  # none twice
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert len({(row["variant"], row["key"]) for row in rows}) == len(rows) == len(after) == 40


@needs_submitit
@pytest.mark.slow
def test_submitits_jobs_do_the_queues_runs(tmp_path):
    """By its executor for this machine, the same code as for Slurm; and a run that can't be done says why."""
    arguments = typed(tmp_path, 1, "launcher=slurm", "slurm.cluster=local", "jobs=2")
    assert evaluate(composed(arguments)) == 0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [(row["variant"], row["steps_done"]) for row in rows] == [("ssd", 1), ("dds", 1)]
    assert list((tmp_path / "out" / "slurm").glob("*_log.out"))


@pytest.mark.slow
def test_a_worker_whose_disk_is_gone_costs_its_run_alone(tmp_path):
    """A folder of the second method's runs is a file: its disk can't be written to."""
    arguments = typed(tmp_path, 1)
    out = tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    (out / "runs" / "dds").write_text("")
    with pytest.raises(
        UserError, match=r"dds on 000, add object: .*Not a directory; is its disk full, or gone\?"
    ):
        evaluate(composed(arguments))
    kept = finished(out)
    assert len(kept) == 1
    (out / "runs" / "dds").unlink()
    assert evaluate(composed(arguments)) == 0
    assert len(finished(out)) == 2 and kept.items() <= finished(out).items()


def test_a_machine_without_the_commands_folder_is_said(tmp_path):
    (run,) = planned(composed(typed(tmp_path, 1)), tmp_path / "out")[:1]
    assert "has no folder /nowhere" in (attempt(run, 1, "/nowhere") or "")
    assert not run.folder.exists()


@needs_submitit
def test_a_cluster_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    runs = planned(composed(typed(tmp_path, 1)), tmp_path / "out")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="launcher=slurm: there is no Slurm here"):
        next(do(runs, Machines("slurm"), folder=tmp_path, label="edits"))
    with pytest.raises(UserError, match=r"slurm=\{'colour': 'red'\}"):
        Machines("slurm", slurm={"cluster": "local", "colour": "red"}).open(1, tmp_path)


@needs_ray
def test_a_ray_cluster_that_does_not_answer_is_one_line(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(UserError, match=r"RAY_ADDRESS=127\.0\.0\.1:9 does not answer"):
        Machines("ray").open(1, Path())


BAD = {
    "launcher=cloud": "launcher=cloud must be one of local, ray, slurm",
    "gpus=-1": "gpus=-1 must be a whole number",
    "slurm=3": "slurm=3 must be settings of submitit",
}


@pytest.mark.parametrize("argument", BAD)
def test_bad_input_is_one_line(argument, tmp_path):
    with pytest.raises(UserError) as caught:
        evaluate(composed(typed(tmp_path, 1, argument)))
    assert BAD[argument] in str(caught.value)
    assert not (tmp_path / "out").exists()


def record(run: Run, seconds: float | None) -> None:
    run.folder.mkdir(parents=True)
    (run.folder / "finished.json").write_text(json.dumps({"key": run.key, "seconds": seconds}))


def test_the_time_left_is_what_the_finished_runs_took(tmp_path):
    runs = planned(composed(typed(tmp_path, 3)), tmp_path / "out")
    assert Pace(runs).left(runs, 1) == "how long it takes is known after the first"
    ssd, dds = ([run for run in runs if run.variant == name] for name in ("ssd", "dds"))
    record(ssd[0], 100.0)
    assert Pace(runs).left(ssd[1:], 1) == "about 3 min left"
    record(dds[0], 700.0)
    assert Pace(runs).left([*ssd[1:], *dds[1:]], 2) == "about 13 min left"  # 2 x 100 + 2 x 700, by two
    other = Run("new", 1.0, ssd[0].case, 0, ssd[0].config)
    assert Pace(runs).left([other], 1) == "about 7 min left"  # of an unknown variant: the mean
    assert [spoken(s) for s in (40, 720, 6480)] == ["40 s", "12 min", "1 h 48 min"]


def test_a_run_is_known_by_its_priors_weights(tmp_path):
    """Other weights are another run; the folder's pages don't count, nor does where it lies."""
    (run,) = planned(composed(typed(tmp_path, 1)), tmp_path / "out")[:1]
    folder = tmp_path / "prior"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "weights.safetensors").write_bytes(b"one")

    def key(path: Path) -> str:
        digest.cache_clear()
        config = run.config | {"diffusion": run.config["diffusion"] | {"name": "own", "path": str(path)}}
        return Run(run.variant, 1.0, run.case, 0, config).key

    first = key(folder)
    (folder / "README.md").write_text("about it")
    assert key(folder) == key(folder.rename(tmp_path / "moved")) == first
    (tmp_path / "moved" / "unet" / "weights.safetensors").write_bytes(b"two")
    assert key(tmp_path / "moved") != first


def test_what_tells_a_priors_weights_from_others():
    assert weights({"name": "embedded"}) == digest(str(PRIOR))
    assert weights({"name": "embedded", "path": "some/other"}) == "some/other@None"
    pinned = f"{ALIASES['sd21'].path}@{ALIASES['sd21'].revision}"
    assert weights({"name": "sd21", "path": None, "revision": None}) == pinned
    assert weights({"name": "sd21", "revision": "abc"}) == f"{ALIASES['sd21'].path}@abc"
    assert weights({"name": "someone/model"}) == "someone/model@None"


def test_a_signal_that_another_thread_takes_waits_until_the_worker_is_started():
    heard, over = [], threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with unheard():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)  # the other thread wakes up for it
            assert not heard
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
        over.set()
        other.join()
