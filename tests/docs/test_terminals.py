"""Every terminal of the documentation says what it shows."""

from __future__ import annotations

import os
import shutil

import pytest

from .pages import PAGES, README, blocks_of, name_of
from .terminal import TAKES_LONG, commands_of, play


def _marks_of(page):
    """What people type first is played in the ordinary run, and everything in the long one."""
    return [] if page == README else [pytest.mark.slow]


PLAYED = [page for page in PAGES if any(each.kind == "console" for each in blocks_of(page))]

INSTALLED = ("openssl",)
"""Programs that a page's terminals run and that not every machine has."""


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=_marks_of(page)) for page in PLAYED],
    ids=name_of,
)
def test_a_terminal_says_what_the_page_shows(page, start):
    for program in INSTALLED:
        missing = shutil.which(program) is None and f"$ {program} " in page.read_text()
        if missing and os.environ.get("CI") != "true":
            pytest.skip(f"{program} is not installed: apt-get install {program}")
    play(page, start)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [each for each in PAGES if f"$ {TAKES_LONG}" in each.read_text()], ids=name_of
)
def test_a_terminal_that_takes_long_does_so_too(page, start):
    play(page, start, long=True)


@pytest.mark.parametrize("page", PLAYED, ids=name_of)
def test_what_a_terminal_shows_has_a_command_above_it(page):
    for block in blocks_of(page):
        if block.kind == "console":
            assert block.text.startswith("$ "), block
            assert commands_of(block.text)
