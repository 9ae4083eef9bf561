"""Results on PIE-Bench as a table, beside the published one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from gs_ssd.evaluation.pie_bench import CATEGORIES
from gs_ssd.evaluation.pie_metrics import COLUMNS, PUBLISHED_COLUMNS

TABLE_2 = Path(__file__).with_name("table2.json")


def published() -> dict[str, Any]:
    """Table 2: its "title", "note", "columns" and "rows" by method, numbers scaled as printed."""
    return json.loads(TABLE_2.read_text(encoding="utf-8"))


def means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Each measure's mean over the rows that have it, unscaled."""
    present = [c for c in COLUMNS if any(c in row for row in rows)]
    values = {c: [row[c] for row in rows if row.get(c) is not None] for c in present}
    return {c: fmean(v) if v else None for c, v in values.items()}


def markdown(rows: Sequence[Mapping[str, Any]], *, data: str, notes: Sequence[str] = ()) -> str:
    """Ours beside the published rows, then ours by category."""
    guidances = list(dict.fromkeys(row["guidance"] for row in rows))
    own = {g: [row for row in rows if row["guidance"] == g] for g in guidances}
    overall = {g: means(own[g]) for g in guidances}
    measured = {c for values in overall.values() for c in values}
    columns = [c for c in COLUMNS if c in PUBLISHED_COLUMNS or c in measured]
    table = published()
    lines = [f"## PIE-Bench: {data}", "", *_head("method", ["images", *(COLUMNS[c].title for c in columns)])]
    for g in guidances:
        lines.append(_line(g, [str(len(own[g])), *_scaled(overall[g], columns)]))
    for method, numbers in table["rows"].items():
        values = dict(zip(table["columns"], numbers))
        lines.append(_line(f"{method} (published)", ["700", *(_number(values.get(c)) for c in columns)]))
    lines += ["", f"Published: {table['title']}. {table['note']}", *notes]
    columns = [c for c in columns if c in measured]
    for g in guidances:
        lines += [
            "",
            f"{g} by category:",
            "",
            *_head("category", ["images", *(COLUMNS[c].title for c in columns)]),
        ]
        for category in sorted({row["category"] for row in own[g]}):
            part = [row for row in own[g] if row["category"] == category]
            lines.append(_line(CATEGORIES[category], [str(len(part)), *_scaled(means(part), columns)]))
    return "\n".join(lines) + "\n"


def _head(first: str, titles: Sequence[str]) -> list[str]:
    return [_line(first, titles), "| --- " + "| ---: " * len(titles) + "|"]


def _line(first: str, cells: Sequence[str]) -> str:
    return f"| {first} | {' | '.join(cells)} |"


def _scaled(values: Mapping[str, float | None], columns: Sequence[str]) -> list[str]:
    return [_number(None if (v := values.get(c)) is None else v * COLUMNS[c].scale) for c in columns]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
