"""What the studio costs: `python scripts/measure_studio.py first` and `python scripts/measure_studio.py open`.

first   from the start of `gs-ssd studio scene=face` (38,251 Gaussians) to the first picture in a browser's hands, with
        the renderer's kernels compiled and without: seconds on the clock and of processor time
open    what an open page adds to an edit's steps: blocks of steps with a page that looks on and without one take turns
        in one run; processor time per step of the whole process, the page's pictures included
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

BLOCK, PAIRS = 40, 8  # steps per block, blocks of either kind


def first() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, cache in (("compiled", None), ("not compiled", folder)):
            wall, cpu, exact = first_picture(cache)
            print(
                f"kernels {name}: first picture after {wall:.1f} s ({cpu:.1f} s of processor time)",
                flush=True,
            )
            if exact is not None:
                print(f"kernels {name}: exact picture after {exact[0]:.1f} s ({exact[1]:.1f} s)", flush=True)


def first_picture(cache: str | None) -> tuple[float, float, tuple[float, float] | None]:
    """Seconds on the clock and of processor time until the first picture, and until the first exact one."""
    from tests.studio.visitor import Visitor

    settings = {"PYTHONPATH": str(ROOT)} | ({} if cache is None else {"NUMBA_CACHE_DIR": cache})
    with tempfile.TemporaryDirectory() as folder:
        words = ["scene=face", "device=cpu", "port=0", f"output_dir={folder}"]
        begun = time.perf_counter()
        server = subprocess.Popen(
            [sys.executable, "-m", "gs_ssd.cli.main", "studio", *words],
            stdout=subprocess.PIPE, text=True, env=os.environ | settings,
        )  # fmt: skip
        try:
            assert server.stdout is not None
            with Visitor(server.stdout.readline().split()[1]) as visitor:
                visitor.look(width=1000, height=900)
                visitor.listen(lambda visitor: visitor.picture)
                found = time.perf_counter() - begun, processor_time(server.pid)
                if cache is None:
                    return *found, None
                visitor.listen(lambda visitor: "is compiled" in str(visitor.notes()), seconds=900)
                rough = visitor.picture
                visitor.listen(lambda visitor: visitor.picture is not rough, seconds=900)
                return *found, (time.perf_counter() - begun, processor_time(server.pid))
        finally:
            server.terminate()
            server.wait(60)


def processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


LOOKER = """
import sys, time
from tests.studio.visitor import Visitor
with Visitor(sys.argv[1]) as visitor:
    visitor.look(width=1000, height=900)
    visitor.listen(lambda visitor: visitor.picture)
    print("seen", flush=True)
    visitor.listen(lambda visitor: False, seconds=3600)
"""


@contextmanager
def looked_at(edit, cfg, folder):
    """The edit with a page that a browser, another process, has open; yields what is called after every step."""
    from gs_ssd.studio.gate import Gate
    from gs_ssd.studio.viewer import beside

    gate = Gate("127.0.0.1", 0)
    with beside(edit, cfg, gate, folder) as go_on:
        looker = subprocess.Popen(
            [sys.executable, "-c", LOOKER, gate.url], stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        try:
            assert looker.stdout is not None and looker.stdout.readline() == "seen\n"
            yield lambda: go_on(lambda: False)
        finally:
            looker.kill()
            looker.wait()


def per_step(edit, each) -> float:
    """Milliseconds of processor time per step of a block."""
    begun = time.process_time()
    for _ in range(BLOCK):
        next(edit)
        each()
    return 1000 * (time.process_time() - begun) / BLOCK


def open_page() -> None:
    from gs_ssd.session.config import compose, scene_edit

    cfg = compose(["scene=face", "prompt=joker", "diffusion=embedded", "device=cpu", "steps=3000"])
    edit = scene_edit(cfg)
    per_step(edit, lambda: None)  # what the first steps load
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(PAIRS):
            closed = per_step(edit, lambda: None)
            with looked_at(edit, cfg, Path(folder)) as each:
                opened = per_step(edit, each)
            ratios.append(opened / closed)
            print(f"closed {closed:.0f} ms, open {opened:.0f} ms per step, {ratios[-1]:.3f}", flush=True)
    low, high = min(ratios), max(ratios)
    print(
        f"an open page: {statistics.median(ratios):.3f} times the step ({low:.3f} to {high:.3f}, {PAIRS} pairs)"
    )


if __name__ == "__main__":
    {"first": first, "open": open_page}[sys.argv[1]]()
