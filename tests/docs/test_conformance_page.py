"""The page about the checks is held to the checks."""

from __future__ import annotations

from sockproto.commands.conformance import configure
from sockproto.commands.line import Parser
from sockproto.testing import Verdict
from sockproto.testing.conformance.examine import CHECKS

from .pages import DOCS, rows_of

PAGE = DOCS / "reference" / "conformance.rst"
OTHER_TABLES = 2


def test_every_check_is_told_of_in_its_group_and_in_its_own_words():
    groups = list(dict.fromkeys(each.group for each in CHECKS))

    for table, group in enumerate(groups, OTHER_TABLES):
        assert rows_of(PAGE, table) == [
            [each.name, each.promise.replace("``", "")] for each in CHECKS if each.group == group
        ]
    assert PAGE.read_text().count(".. list-table::") == OTHER_TABLES + len(groups)


def test_the_verdicts_are_those_of_the_code():
    assert [row[0] for row in rows_of(PAGE)] == [str(each) for each in Verdict]


def test_every_option_is_told_of():
    parser = Parser(prog="sockproto conformance")
    configure(parser)

    options = [each for action in parser._actions for each in action.option_strings]
    told = [row[0].split()[0] for row in rows_of(PAGE, 1)]
    assert told == [each for each in options if each not in ("-h", "--help")]
