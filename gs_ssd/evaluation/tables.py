"""What an evaluation says: tables of means with their standard errors, paired differences, trends and targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from gs_ssd.evaluation import pie_metrics
from gs_ssd.evaluation.runs import Run
from gs_ssd.evaluation.statistics import Estimate, over, paired

# column: heading, digits, factor
COLUMNS: dict[str, tuple[str, int, float]] = {
    "clip_direction": ("direction ↑", 3, 1),
    "clip_similarity": ("CLIP sim ↑", 3, 1),
    "clip_direction_compat": ("direction, compat", 4, 1),
    "clip_similarity_compat": ("CLIP sim, compat", 4, 1),
    "clip_source_similarity": ("CLIP sim to source ↑", 3, 1),
    "clip_direction_consistency": ("direction consistency ↑", 3, 1),
    "retrieval_top1": ("retrieval ↑", 2, 1),
    "way": ("way to the truth ↑", 2, 1),
    "way_front": ("way, front ↑", 2, 1),
    "outline": ("outline IoU ↑", 3, 1),
    "outline_before": ("outline IoU before", 3, 1),
    "outline_source": ("outline IoU with the source", 3, 1),
    "source_psnr": ("source kept, dB ↑", 1, 1),
    "background_psnr": ("background, dB ↑", 1, 1),
    "background_ssim": ("background SSIM ↑", 3, 1),
    "background_lpips": ("background LPIPS ↓", 4, 1),
    "unedited_psnr": ("unedited parts, dB ↑", 1, 1),
    "view_consistency": ("view consistency, dB ↑", 1, 1),
    "bright_spots": ("bright spots, % ↓", 2, 100),
    "seconds": ("seconds", 1, 1),
    "seconds_per_step": ("s per step", 3, 1),
    "evaluations": ("UNet evaluations", 0, 1),
    "evaluations_per_step": ("UNet evaluations per step", 2, 1),
    **{name: (column.title, 2, column.scale) for name, column in pie_metrics.COLUMNS.items()},
}
JUDGED = (
    "clip_direction",
    "clip_similarity",
    "clip_source_similarity",
    "clip_direction_consistency",
    "retrieval_top1",
)


def without_unjudged(rows: Sequence[dict[str, Any]], prompts: Sequence[str]) -> list[dict[str, Any]]:
    """The rows, those of `prompts`, which the judge doesn't know, without its verdict."""
    blank = dict.fromkeys(JUDGED)
    return [row | blank if row["prompt"] in prompts else row for row in rows]


def heading(column: str, *, judged: bool = False) -> str:
    """A column's; `judged` says that its CLIP is the judge of data/judge, whose numbers are no published CLIP's."""
    title = COLUMNS[column][0]
    return f"judge {title.removeprefix('CLIP ')}" if judged and column.startswith(JUDGED) else title


def shown(value: Estimate | None, column: str, *, sign: str = "") -> str:
    """`mean ± standard error`, as the column is printed; `sign` "+" writes it always."""
    if value is None:
        return "-"
    _, digits, factor = COLUMNS[column]
    error = "" if value.error is None else f" ± {factor * value.error:.{digits}f}"
    return f"{factor * value.mean:{sign}.{digits}f}{error}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def colour_rates(runs: Sequence[Run]) -> dict[str, str]:
    """Each variant's learning rate of the colours; several, where scenes have their own."""
    rates = [(run.variant, f"{run.config['optimizer']['rates']['sh0']:g}") for run in runs]
    return {
        variant: ", ".join(dict.fromkeys(rate for name, rate in rates if name == variant))
        for variant, _ in rates
    }


def variant_table(
    rows: Sequence[dict], columns: Sequence[str], rates: Mapping[str, str], *, judged: bool = False
) -> list[str]:
    """A line per variant: its rate and the means over its runs."""
    lines = []
    most = max(Counter(row["variant"] for row in rows).values(), default=0)
    for variant, rate in rates.items():
        own = [row for row in rows if row["variant"] == variant]
        name = variant
        if diverged := sum(row["diverged"] for row in own):
            name += f" ({diverged} of {len(own)} runs diverged)"
        elif len(own) < most:  # the evaluation is still going on
            name += f" ({len(own)} of {most} runs)"
        lines.append([name, rate, *(shown(over(own, column), column) for column in columns)])
    return table(["", "rate", *(heading(column, judged=judged) for column in columns)], lines)


def difference_table(
    rows: Sequence[dict], columns: Sequence[str], variants: Sequence[str], *, judged: bool = False
) -> list[str]:
    """A line per variant but the first: its mean difference from the first on the same cases and seeds."""
    if len(variants) < 2:
        return []
    own = {variant: [row for row in rows if row["variant"] == variant] for variant in variants}
    first, *others = variants
    lines = [
        [v, *(shown(paired(own[v], own[first], column), column, sign="+") for column in columns)]
        for v in others
    ]
    return table([f"minus {first}", *(heading(column, judged=judged) for column in columns)], lines)


def prompt_table(
    rows: Sequence[dict], column: str, variants: Sequence[str], *, judged: bool = False
) -> list[str]:
    """A line per variant, a column per prompt: means over the scenes."""
    prompts = list(dict.fromkeys(row["prompt"] for row in rows))
    lines = []
    for variant in variants:
        own = [row for row in rows if row["variant"] == variant]
        cells = [over([row for row in own if row["prompt"] == prompt], column) for prompt in prompts]
        lines.append([variant, *(shown(cell, column) for cell in cells)])
    return table([heading(column, judged=judged), *prompts], lines)


def trend_lines(rows: Sequence[dict], trends: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether each claimed order holds: its metric should grow along the variants that it lists."""
    lines = []
    for trend in trends:
        column = trend["metric"]
        values = [over([row for row in rows if row["variant"] == v], column) for v in trend["grows"]]
        numbers = ", ".join(f"{v}: {shown(value, column)}" for v, value in zip(trend["grows"], values))
        measured = [value.mean for value in values if value is not None]
        if len(measured) < len(values):
            verdict = "not measured"
        else:
            verdict = "holds" if all(a < b for a, b in pairwise(measured)) else "**does not hold**"
        lines.append(f"* {trend['claim']}: {verdict} ({COLUMNS[column][0]} {numbers})")
    return lines


def target_lines(
    rows: Sequence[dict], targets: Sequence[Mapping[str, Any]], variants: Sequence[str]
) -> list[str]:
    """Whether each variant's mean over a target's prompts reaches what is asked for."""
    lines = []
    for target in targets:
        column = target["metric"]
        for variant in variants:
            own = [r for r in rows if r["variant"] == variant and r["prompt"] in target["prompts"]]
            value = over(own, column)
            verdict = (
                "not measured"
                if value is None
                else "met"
                if value.mean >= target["at_least"]
                else "**missed**"
            )
            lines.append(
                f"* {target['claim']}, {COLUMNS[column][0]} at least {target['at_least']:g}: {verdict} by {variant} "
                f"({shown(value, column)})"
            )
    return lines
