import json

import pytest

from benchmarks.bench import Settings
from benchmarks.figures import Measure, Notebook
from benchmarks.report import as_json, number, table

CPU = Measure("handshakes", "server CPU per handshake", "µs")
GROWTH = Measure("pending", "cost with 10,000 pending ÷ cost with 100", "")
MEMORY = Measure("memory", "memory per pending connection", "bytes")

ABOUT = ("A processor, 2 cores, Linux 6.1", {"Python": "3.11.7", "uvloop": "0.21"}, "2026-01-31")


def test_the_table_shows_medians_spreads_and_ratios_to_those_who_were_measured():
    notebook = Notebook()
    for sample in (16.0, 15.0, 18.0):
        notebook.add("uvloop", {CPU: sample})
    for sample in (10.0, 10.0, 9.5):
        notebook.add("c", {CPU: sample})

    assert table(notebook, Settings(), *ABOUT).splitlines() == [
        "A processor, 2 cores, Linux 6.1; 2026-01-31",
        "Python 3.11.7, uvloop 0.21",
        "3 rounds, 20,000 handshakes at concurrency 100; median and spread",
        "",
        "server CPU per handshake, µs  median     spread   ÷ C  ÷ uvloop",
        "  C, epoll                      10.0  9.50–10.0  1.00      0.62",
        "  uvloop protocol               16.0  15.0–18.0  1.60      1.00",
    ]


def test_a_ratio_is_not_divided_again():
    notebook = Notebook()
    notebook.add("c", {GROWTH: 1.02})

    assert table(notebook, Settings(), *ABOUT).splitlines()[-2:] == [
        "cost with 10,000 pending ÷ cost with 100  median     spread",
        "  C, epoll                                  1.02  1.02–1.02",
    ]


def test_nothing_is_divided_by_nothing():
    notebook = Notebook()
    notebook.add("c", {MEMORY: 0.82})
    notebook.add("twisted", {MEMORY: 1500.0})

    assert table(notebook, Settings(), *ABOUT).splitlines()[-3:] == [
        "memory per pending connection, bytes  median       spread  ÷ Twisted",
        "  C, epoll                              0.82    0.82–0.82       0.00",
        "  Twisted                              1,500  1,500–1,500       1.00",
    ]


def test_what_was_not_measured_is_said_at_the_end():
    notebook = Notebook()
    notebook.add("c", {CPU: 10.0})
    notebook.note("handshakes", "go", "not measured: go is not in the PATH")

    assert table(notebook, Settings(), *ABOUT).splitlines()[-3:] == [
        "",
        "notes",
        "  handshakes: go: not measured: go is not in the PATH",
    ]


def test_a_quick_run_says_that_it_is_nothing_to_quote():
    shown = table(Notebook(), Settings().quick(), *ABOUT)

    assert "one round, nothing to quote, 4,000 handshakes" in shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.00"), (9.876, "9.88"), (98.76, "98.8"), (987.6, "988"), (9876.5, "9,876")],
)
def test_numbers_show_three_digits(value, shown):
    assert number(value) == shown


def test_json_keeps_every_sample():
    notebook = Notebook()
    notebook.add("c", {CPU: 10.0})
    notebook.add("c", {CPU: 12.0})
    notebook.note("handshakes", "go", "not measured: go is not in the PATH")

    written = json.loads(json.dumps(as_json(notebook, Settings(), *ABOUT)))

    assert written["figures"] == [
        {
            "section": "handshakes",
            "measure": "server CPU per handshake",
            "unit": "µs",
            "contender": "c",
            "median": 11.0,
            "samples": [10.0, 12.0],
        }
    ]
    assert written["notes"] == ["handshakes: go: not measured: go is not in the PATH"]
    assert written["machine"] == "A processor, 2 cores, Linux 6.1"
    assert written["date"] == "2026-01-31"
    assert written["versions"] == {"Python": "3.11.7", "uvloop": "0.21"}
    assert written["settings"]["handshakes"] == 20_000
