"""The penalties are what a simulation says that they should be, and the page says what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from .simulation import CHOSEN, STRATEGIES, candidates, neighbourhood, simulate, strategies

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "penalties.rst"


def table(number: int) -> list[list[str]]:
    """The rows of one of the page's tables, without the header."""
    _, *tables = PAGE.read_text().split(".. list-table::")
    rows: list[list[str]] = []
    for line in tables[number].splitlines():
        if line.startswith("   * - "):
            rows.append([line[7:]])
        elif line.startswith("     - "):
            rows[-1].append(line[7:])
    return rows[1:]


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
def test_at_the_end_of_a_minute_of_crowding_somebody_honest_is_served(strategy):
    outcome = simulate(CHOSEN, strategy, 5.0, seconds=66.0, seed=7)

    assert outcome.honest(55, 60) >= 0.99


def test_where_nobody_crowds_those_behind_one_address_are_all_served():
    assert simulate(CHOSEN, crowd=0, seconds=600.0).neighbours == 1.0


def test_without_penalties_a_crowd_keeps_others_out():
    assert simulate(None, pause=1.0, seconds=66.0).honest(55, 60) < 0.7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "rows"),
    [(0, candidates), (1, neighbourhood), (2, strategies)],
    ids=["candidates", "neighbourhood", "strategies"],
)
def test_the_page_has_the_figures_of_the_simulation(number, rows):
    assert table(number) == list(rows())
