"""Run scenes × prompts × methods and put their metrics side by side.

    gs-ssd evaluate experiment=embedded_benchmark guidance=all jobs=2
    gs-ssd evaluate experiment=embedded_benchmark guidance=[ssd,dds] scenes=[face] prompts=[clown] steps=60
    gs-ssd evaluate experiment=table1 data=my_captures seeds=[0,1,2]
    gs-ssd evaluate experiment=table2 data=PIE-Bench_v1 pie_bench.limit=50
    gs-ssd evaluate experiment=fig5

Values are YAML. Experiments lie in configs/evaluate/experiment, every setting in configs/evaluate/evaluate.yaml.
Writes results.json, results.md and pages of pictures to outputs/evaluate/<experiment>, or output_dir. The
same command again resumes where an earlier one stopped.
"""

from __future__ import annotations

from collections.abc import Sequence

from gs_ssd.cli.app import answer, check_alone, prepare_process
from gs_ssd.cli.signals import Interrupted, Signals


def main(argv: Sequence[str]) -> int:
    """Evaluate what the settings describe; returns the exit code."""
    if any(argument in ("-h", "--help") for argument in argv):
        from gs_ssd.evaluation.settings import FOLDER

        print(f"{__doc__}\n{(FOLDER / 'evaluate.yaml').read_text(encoding='utf-8')}")
        return 0
    prepare_process()
    with Signals():
        return answer(lambda: _evaluate(argv))


def _evaluate(argv: Sequence[str]) -> int:
    from gs_ssd.evaluation.settings import composed

    check_alone("evaluate")
    cfg = composed(argv)  # what is mistyped is answered before torch is imported
    from gs_ssd.evaluation.evaluate import evaluate

    try:
        return evaluate(cfg)
    except Interrupted as stop:
        raise Interrupted("the same command resumes here; finished runs are kept") from stop
