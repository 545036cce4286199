"""The tables of the reference of attacks, held to the code."""

from __future__ import annotations

from inspect import signature

from sockproto.service.units import seconds, show_size
from sockproto.testing import attack
from sockproto.testing.attack import KINDS, Phase, Report, run
from sockproto.testing.attack.line import _parser
from sockproto.testing.attack.plan import BOUNDS, DEFAULTS

from .pages import DOCS, rows_of

PAGE = DOCS / "reference/attack.rst"

TIMES = ("--duration", "--return-after", "--drip-every", "--quiet", "--after", "--probe-every")


def number(text: str, option: str) -> float:
    """Read a cell of the table of options."""
    if text.endswith("g"):
        return int(text[:-1]) * 1024**3
    if option in TIMES or option.startswith("--try-"):
        return seconds(text) if text != "0" else 0
    return float(text.replace(",", ""))


def test_the_kinds_are_those_of_the_code():
    assert rows_of(PAGE) == [
        [name, kind.summary, str(kind.connections), f"{kind.return_after:g} s"]
        for name, kind in KINDS.items()
    ]


def test_every_option_is_told_of():
    options = {name for each in _parser()._actions for name in each.option_strings}

    assert {row[0] for row in rows_of(PAGE, 1)} == options - {"-h", "--help"}


def test_the_bounds_and_the_defaults_are_those_of_the_code():
    told = {row[0].removeprefix("--").replace("-", "_"): row for row in rows_of(PAGE, 1)}

    for name, (least, most) in BOUNDS.items():
        option, _, default, low, high = told[name]
        assert (number(low, option), number(high, option)) == (least, most), name
        if DEFAULTS.get(name) is not None:
            assert number(default, option) == DEFAULTS[name], name
    assert show_size(DEFAULTS["amount"]) == told["amount"][2]


def test_the_names_are_those_of_the_package():
    told = {row[0].partition("(")[0].partition(".")[0]: row[1] for row in rows_of(PAGE, 2)}

    assert set(told) == set(attack.__all__)
    assert {"plan", "command"} <= set(signature(run).parameters)
    for kind in (Report, Phase):
        named = {word.strip("., ;") for word in told[kind.__name__].split()}
        fields = set(kind.__dataclass_fields__)
        assert fields - named <= {"plan", "name"}
