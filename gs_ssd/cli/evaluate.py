"""Run scenes × prompts × methods and put their metrics side by side.

    gs-ssd evaluate experiment=embedded_benchmark guidance=all jobs=2
    gs-ssd evaluate experiment=embedded_benchmark guidance=[ssd,dds] scenes=[face] prompts=[clown] steps=60
    gs-ssd evaluate experiment=table1 data=my_captures seeds=[0,1,2]
    gs-ssd evaluate experiment=table2 data=PIE-Bench_v1 pie_bench.limit=50
    gs-ssd evaluate experiment=fig5
    gs-ssd evaluate study=outputs/evaluate/table1
    gs-ssd evaluate study=outputs/evaluate/table1 choices=[anna.json,ben.json]

Values are YAML. Experiments lie in configs/evaluate/experiment, every setting in configs/evaluate/evaluate.yaml.
Writes results.json, results.md and pages of pictures to outputs/evaluate/<experiment>, or output_dir. The
same command again resumes where an earlier one stopped. `study` writes a page that asks people which edits of such a
folder they prefer, and reads the files that the page saves into shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gs_ssd.cli.app import check_alone, guarded
from gs_ssd.cli.signals import Interrupted, Signals

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(argv: Sequence[str]) -> int:
    """Evaluate what the settings describe; returns the exit code."""
    if any(argument in ("-h", "--help") for argument in argv):
        from gs_ssd.evaluation.settings import FOLDER

        print(f"{__doc__}\n{(FOLDER / 'evaluate.yaml').read_text(encoding='utf-8')}")
        return 0
    return guarded(lambda signals: _evaluate(argv, signals))


def _evaluate(argv: Sequence[str], signals: Signals) -> int:
    from gs_ssd.evaluation.settings import composed, output_folder

    check_alone("evaluate")
    cfg = composed(argv)  # what is mistyped is answered before torch is imported
    if cfg.study is not None:
        return _study(argv, cfg)
    output_folder(cfg)  # can it be written?
    from gs_ssd.evaluation.evaluate import evaluate

    signals.check()
    try:
        return evaluate(cfg)
    except Interrupted as stop:
        raise Interrupted("the same command resumes here; finished runs are kept") from stop


def _study(argv: Sequence[str], cfg: DictConfig) -> int:
    from gs_ssd.errors import UserError

    others = [a for a in argv if not a.startswith(("study=", "choices="))]
    if others:
        raise UserError(
            f"{others[0]} is of no use with study=, which takes a table's folder and choices= alone"
        )
    choices = cfg.choices
    from gs_ssd.evaluation.study import study

    print(
        study(
            cfg.study, None if choices is None else [choices] if isinstance(choices, str) else list(choices)
        )
    )
    return 0
