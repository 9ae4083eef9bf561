"""Results on PIE-Bench as a table, beside the published one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gs_ssd.evaluation.pie_bench import CATEGORIES
from gs_ssd.evaluation.pie_metrics import COLUMNS, PUBLISHED_COLUMNS
from gs_ssd.evaluation.statistics import over
from gs_ssd.evaluation.tables import difference_table, shown, table

TABLE_2 = Path(__file__).with_name("table2.json")


def published() -> dict[str, Any]:
    """Table 2: its "title", "note", "columns" and "rows" by method, numbers scaled as printed."""
    return json.loads(TABLE_2.read_text(encoding="utf-8"))


def means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Each measure's mean over the rows that have it, unscaled."""
    present = [c for c in COLUMNS if any(c in row for row in rows)]
    found = {c: over(rows, c) for c in present}
    return {c: None if value is None else value.mean for c, value in found.items()}


def by_category(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """The same by the names of the categories that occur."""
    parts = {name: [row for row in rows if row["category"] == i] for i, name in enumerate(CATEGORIES)}
    return {name: means(part) for name, part in parts.items() if part}


def markdown(rows: Sequence[dict[str, Any]], *, data: str, notes: Sequence[str] = ()) -> str:
    """Ours beside the published rows, the differences between ours, then ours by category."""
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    own = {v: [row for row in rows if row["variant"] == v] for v in variants}
    measured = [c for c in COLUMNS if any(c in row for row in rows)]
    columns = [c for c in COLUMNS if c in PUBLISHED_COLUMNS or c in measured]
    titles = [COLUMNS[c].title for c in columns]
    lines = [[v, str(len(own[v])), *(shown(over(own[v], c), c) for c in columns)] for v in variants]
    known = published()
    for method, numbers in known["rows"].items():
        values = dict(zip(known["columns"], numbers))
        cells = ["-" if (value := values.get(c)) is None else f"{value:.2f}" for c in columns]
        lines.append([f"{method} (published)", "700", *cells])
    text = [f"## PIE-Bench: {data}", "", *table(["method", "images", *titles], lines)]
    if differences := difference_table(rows, measured, variants):
        text += ["", "Paired differences, picture by picture:", "", *differences]
    text += ["", f"Published: {known['title']}. {known['note']}", *notes]
    for v in variants:
        lines = []
        for category in sorted({row["category"] for row in own[v]}):
            part = [row for row in own[v] if row["category"] == category]
            lines.append([CATEGORIES[category], str(len(part)), *(shown(over(part, c), c) for c in measured)])
        titles = [COLUMNS[c].title for c in measured]
        text += ["", f"{v} by category:", "", *table(["category", "images", *titles], lines)]
    return "\n".join(text) + "\n"
