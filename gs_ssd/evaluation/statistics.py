"""Means with standard errors, and paired differences.

The unit is the case (scene and prompt): several seeds of one case are averaged first, for they share its difficulty.
Where there is one case alone, its seeds are the units. The standard error is s/√n over the units, none for one unit.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` units with its standard error; None where one unit can't tell."""

    mean: float
    error: float | None
    count: int


def estimate(values: Mapping[tuple[Hashable, Hashable], float]) -> Estimate | None:
    """Of values by (case, seed); None where there is none."""
    if not values:
        return None
    by_case: dict[Hashable, list[float]] = {}
    for (case, _), value in values.items():
        by_case.setdefault(case, []).append(value)
    units = [fmean(some) for some in by_case.values()] if len(by_case) > 1 else list(values.values())
    error = stdev(units) / sqrt(len(units)) if len(units) > 1 else None
    return Estimate(fmean(units), error, len(units))


def over(rows: Sequence[Mapping[str, Any]], column: str) -> Estimate | None:
    """Of the rows that have the value."""
    return estimate(_values(rows, column))


def paired(
    rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], column: str
) -> Estimate | None:
    """Of the differences rows − others, over the cases and seeds that both have."""
    left, right = _values(rows, column), _values(others, column)
    return estimate({unit: left[unit] - right[unit] for unit in left if unit in right})


def _values(rows: Sequence[Mapping[str, Any]], column: str) -> dict[tuple[Hashable, Hashable], float]:
    return {
        ((row.get("scene"), row.get("prompt")), row.get("seed")): row[column]
        for row in rows
        if row.get(column) is not None
    }


def by_variant(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """(estimates, paired differences against the first variant) by variant and column, as plain data."""
    own = {
        variant: [r for r in rows if r["variant"] == variant]
        for variant in dict.fromkeys(r["variant"] for r in rows)
    }
    first = next(iter(own.values()), [])
    means, differences = {}, {}
    for variant, some in own.items():
        means[variant] = {column: _plain(over(some, column)) for column in columns}
        if some is not first:
            differences[variant] = {column: _plain(paired(some, first, column)) for column in columns}
    return means, differences


def _plain(value: Estimate | None) -> dict[str, Any] | None:
    return None if value is None else {"mean": value.mean, "error": value.error, "count": value.count}
