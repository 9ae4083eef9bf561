"""The same budget for all: one table seen by steps, by seconds and by noise predictions.

With `budgets=[0.25,0.5,1]` every variant runs with these shares of its own steps too; each is a run of its own, for
schedules are tied to the number of steps. In each view all variants get as much as the one that costs least in its
full run: a variant's metric at that budget is read, case by case, off the straight line between its two runs whose mean
costs enclose it. A variant whose cheapest run costs more has no value there.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from gs_ssd.evaluation.statistics import Estimate, estimate
from gs_ssd.evaluation.tables import heading, shown, table

# What can be held equal: the row's column, and how a table calls it.
UNITS = {"steps": "steps", "seconds": "seconds of editing", "evaluations": "noise predictions per view"}

Rows = Sequence[Mapping[str, Any]]
Values = dict[tuple[Hashable, Hashable], float]


def budget_tables(rows: Rows, columns: Sequence[str], *, judged: bool = False) -> list[str]:
    """A section per unit, where there are runs of several shares; else nothing."""
    if len({row["share"] for row in rows}) < 2:
        return []
    lines: list[str] = []
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    first, *others = variants
    for unit, name in UNITS.items():
        budget = common_budget(rows, unit)
        if budget is None:
            continue
        own = {v: [row for row in rows if row["variant"] == v] for v in variants}
        titles = [heading(column, judged=judged) for column in columns]
        body = [[v, *(shown(at_budget(own[v], unit, budget, c), c) for c in columns)] for v in variants]
        lines += ["", f"At the same budget of {budget:.4g} {name}:", "", *table(["", *titles], body)]
        body = [
            [v, *(shown(minus(own[v], own[first], unit, budget, c), c, sign="+") for c in columns)]
            for v in others
        ]
        if body:
            lines += ["", "Paired differences there:", "", *table([f"minus {first}", *titles], body)]
    return lines


def common_budget(rows: Rows, unit: str) -> float | None:
    """What the full run of the cheapest variant costs, in the mean; None where nobody knows."""
    full = [
        cost
        for variant in {row["variant"] for row in rows}
        if (curve := costs([row for row in rows if row["variant"] == variant], unit))
        for cost in [curve[max(curve)]]
    ]
    return min(full, default=None)


def costs(rows: Rows, unit: str) -> dict[float, float]:
    """Mean cost by share of one variant's rows."""
    known: dict[float, list[float]] = {}
    for row in rows:
        if row.get(unit) is not None:
            known.setdefault(row["share"], []).append(float(row[unit]))
    return {share: fmean(values) for share, values in sorted(known.items())}


def at_budget(rows: Rows, unit: str, budget: float, column: str) -> Estimate | None:
    """A metric of one variant's rows at a budget."""
    return estimate(values_at(rows, unit, budget, column))


def minus(rows: Rows, others: Rows, unit: str, budget: float, column: str) -> Estimate | None:
    """The differences rows − others at a budget, over the cases and seeds that both have."""
    left, right = (values_at(some, unit, budget, column) for some in (rows, others))
    return estimate({case: left[case] - right[case] for case in left if case in right})


def values_at(rows: Rows, unit: str, budget: float, column: str) -> Values:
    """A metric of one variant's rows: between the two shares whose mean costs enclose the budget, {} without them."""
    curve = sorted((cost, share) for share, cost in costs(rows, unit).items())
    for (low, first), (high, second) in pairwise(curve):
        if low <= budget <= high:
            weight = (budget - low) / (high - low) if high > low else 1.0
            before, after = _values(rows, first, column), _values(rows, second, column)
            return {
                case: (1 - weight) * before[case] + weight * after[case] for case in before if case in after
            }
    return {}


def _values(rows: Rows, share: float, column: str) -> Values:
    return {
        ((row["scene"], row["prompt"]), row["seed"]): float(row[column])
        for row in rows
        if row["share"] == share and row.get(column) is not None
    }
