"""The figures as a table to read, and as JSON to compute with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.bench import Settings
from benchmarks.contenders import CONTENDERS, FLOOR, HAPROXY, SOCAT, TWISTED, UVLOOP
from benchmarks.figures import Figure, Measure, Notebook

BESIDE = {
    "÷ C": FLOOR,
    "÷ uvloop": UVLOOP,
    "÷ Twisted": TWISTED,
    "÷ haproxy": HAPROXY,
    "÷ socat": SOCAT,
}
"""The columns of ratios, and by whose median they divide; each where it makes sense."""

TITLES = {each.name: each.title for each in CONTENDERS}


def table(
    notebook: Notebook,
    settings: Settings,
    machine: str,
    versions: Mapping[str, str],
    date: str,
) -> str:
    """Everything, as text."""
    shown = ", ".join(f"{name} {number}" for name, number in versions.items())
    lines = [f"{machine}; {date}", shown, _how(settings)]
    for measure in notebook.measures:
        lines += ["", *_block(measure, notebook.figures(measure))]
    if notebook.notes:
        lines += ["", "notes", *(f"  {line}" for line in notebook.notes)]
    return "\n".join(lines)


def _how(settings: Settings) -> str:
    rounds = f"{settings.rounds} rounds" if settings.rounds != 1 else "one round, nothing to quote"
    return (
        f"{rounds}, {settings.handshakes:,} handshakes at concurrency {settings.concurrency}; "
        "median and spread"
    )


def _block(measure: Measure, figures: Mapping[str, Figure]) -> list[str]:
    # A ratio of ratios says nothing, and what is less than one byte or microsecond is nothing.
    beside = {
        title: figures[name].median
        for title, name in BESIDE.items()
        if measure.unit and name in figures and figures[name].median >= 1
    }
    rows = [(str(measure), "median", "spread", *beside)]
    for each in CONTENDERS:
        if each.name in figures:
            rows.append(_row(figures[each.name], beside.values()))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [_line(row, widths) for row in rows]


def _row(figure: Figure, beside: Iterable[float]) -> tuple[str, ...]:
    low, high = figure.spread
    ratios = (f"{figure.median / other:.2f}" for other in beside)
    spread = f"{number(low)}–{number(high)}"
    return (f"  {TITLES[figure.contender]}", number(figure.median), spread, *ratios)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "  ".join([row[0].ljust(widths[0]), *cells])


def number(value: float) -> str:
    """Three digits that mean something, and no more."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def as_json(
    notebook: Notebook,
    settings: Settings,
    machine: str,
    versions: Mapping[str, str],
    date: str,
) -> dict[str, Any]:
    """Everything, as values that :mod:`json` can write."""
    return {
        "machine": machine,
        "date": date,
        "versions": dict(versions),
        "settings": asdict(settings),
        "figures": [
            {
                "section": measure.section,
                "measure": measure.title,
                "unit": measure.unit,
                "contender": figure.contender,
                "median": figure.median,
                "samples": list(figure.samples),
            }
            for measure in notebook.measures
            for figure in notebook.figures(measure).values()
        ],
        "notes": notebook.notes,
    }
