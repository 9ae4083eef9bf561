"""The same budget for all: what is interpolated, and between which runs."""

from __future__ import annotations

import pytest

from gs_ssd.errors import UserError
from gs_ssd.evaluation.budgets import at_budget, budget_tables, common_budget
from gs_ssd.evaluation.runs import shortened
from gs_ssd.evaluation.settings import check, composed


def row(
    variant: str, share: float, prompt: str, value: float, *, steps: int, seconds: float, each: int
) -> dict:
    about = {"scene": "face", "prompt": prompt, "seed": 0, "steps": round(steps * share)}
    costs = {"seconds": seconds * share, "evaluations": round(steps * share) * each}
    return {"variant": variant, "share": share, "way": value, **about, **costs}


ROWS = [
    row(variant, share, prompt, gain * share + extra, steps=steps, seconds=seconds, each=each)
    for variant, gain, steps, seconds, each in (("quick", 0.4, 100, 10.0, 2), ("slow", 0.8, 400, 20.0, 1))
    for share in (0.25, 0.5, 1.0)
    for prompt, extra in (("clown", 0.0), ("gold", 0.1))
]


def test_a_budget_is_what_the_cheapest_full_run_costs():
    assert common_budget(ROWS, "steps") == 100
    assert common_budget(ROWS, "seconds") == 10
    assert common_budget(ROWS, "evaluations") == 200
    assert common_budget(ROWS, "unknown") is None


def test_a_metric_is_read_off_the_line_between_two_runs():
    slow = [r for r in ROWS if r["variant"] == "slow"]
    assert at_budget(slow, "steps", 100, "way").mean == pytest.approx(0.2 + 0.05)
    assert at_budget(slow, "seconds", 15, "way").mean == pytest.approx(0.8 * 0.75 + 0.05)
    found = at_budget(slow, "evaluations", 300, "way")
    assert found.mean == pytest.approx(0.8 * 0.75 + 0.05) and found.count == 2
    assert found.error == pytest.approx(0.05)  # over the two prompts
    assert at_budget(slow, "steps", 50, "way") is None  # less than its cheapest run


def test_one_table_is_seen_three_times_and_the_leader_may_change():
    lines = "\n".join(budget_tables(ROWS, ["way"]))
    assert lines.count("At the same budget of") == 3
    steps, seconds, predictions = lines.split("At the same budget of")[1:]
    assert "| quick | 0.45 ± 0.05 |" in steps and "| slow | 0.25 ± 0.05 |" in steps
    assert "| slow | 0.45 ± 0.05 |" in seconds and "| slow | 0.45 ± 0.05 |" in predictions
    # Both gain 0.1 from clown to gold, so the difference of a prompt is that of the other: it has no error.
    assert "| minus quick |" in steps and "| slow | -0.20 ± 0.00 |" in steps
    assert "| slow | +0.00 ± 0.00 |" in seconds
    alone = "\n".join(budget_tables([r for r in ROWS if r["variant"] == "slow"], ["way"]))
    assert "At the same budget" in alone and "minus" not in alone
    assert budget_tables([r for r in ROWS if r["share"] == 1], ["way"]) == []


def test_a_shorter_run_is_a_run_of_its_own_schedule():
    config = {"steps": 200, "densify": {"stop": 200, "every": 100}, "seed": 0}
    assert shortened(config, 0.25) == {"steps": 50, "densify": {"stop": 50, "every": 100}, "seed": 0}
    assert config["densify"]["stop"] == 200
    assert shortened({"steps": 200, "densify": {"stop": 120}}, 0.5)["densify"]["stop"] == 120


@pytest.mark.parametrize("budgets", ["[0.5]", "[1,1]", "[0,1]", "[1,2]", "half"])
def test_bad_budgets_are_one_line(budgets):
    with pytest.raises(UserError, match="budgets"):
        check(composed([f"budgets={budgets}"]))
